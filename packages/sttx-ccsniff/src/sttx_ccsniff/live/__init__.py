"""The source `live`: Claude Code sessions seen by the npm tool ccsniff, which runs in a Node process."""
