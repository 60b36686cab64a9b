"""`live`: Claude Code sessions as the npm tool ccsniff sees them, through a Node process of ours."""
