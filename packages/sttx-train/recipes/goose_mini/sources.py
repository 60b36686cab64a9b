"""The fixed list of packages that the corpus is made of, and the licence each is taken under.

Nothing here is code: `gather.py` downloads these by name with `npm pack`, `pip download` and `apt-get download`.
"""

NPM = """
typescript@5.9.3 @types/node @types/react @types/express react react-dom vite eslint express zod rxjs
effect @reduxjs/toolkit immer @tanstack/query-core @tanstack/react-query @tanstack/table-core
@tanstack/router-core @trpc/server @trpc/client msw openai @anthropic-ai/sdk viem mobx ajv puppeteer-core
preact svelte @sveltejs/kit commander yargs koa webpack fastify pino undici lodash graphql type-fest
hono date-fns prettier vitest @angular/core drizzle-orm axios mocha npm @octokit/openapi-types mdn-data
vue ethers fp-ts io-ts ts-pattern @apollo/client socket.io knex winston semver
""".split()

WHEELS = """
django flask fastapi pydantic sqlalchemy requests httpx rich click attrs pytest black mypy pip setuptools
jinja2 werkzeug starlette aiohttp boto3 botocore networkx sympy scikit-learn pandas numpy matplotlib
tornado celery scrapy twisted poetry typer textual numba dask ansible-core nltk langchain-core transformers
pyramid babel docutils sphinx hypothesis trio anyio paramiko jupyter-client ipython
""".split()

SDISTS = """
ruff uv polars pydantic-core tokenizers maturin pythonnet pytest fastapi click rich httpx black attrs flask
uvicorn hatch typer mkdocs-material pre-commit
""".split()

DEBS = """
golang-1.19-src golang-github-spf13-cobra-dev golang-github-gin-gonic-gin-dev golang-google-grpc-dev
golang-github-stretchr-testify-dev golang-github-spf13-viper-dev golang-golang-x-net-dev
golang-golang-x-tools-dev golang-github-docker-docker-dev golang-github-charmbracelet-bubbletea-dev
golang-github-prometheus-client-golang-dev golang-github-go-chi-chi-dev golang-go.uber-zap-dev
golang-github-gorilla-mux-dev golang-github-gorilla-websocket-dev golang-gopkg-yaml.v3-dev
golang-github-sirupsen-logrus-dev golang-github-prometheus-alertmanager-dev golang-github-hashicorp-go-plugin-dev
librust-serde-dev librust-serde-json-dev librust-tokio-dev librust-clap-dev librust-regex-dev librust-hyper-dev
librust-rand-dev librust-anyhow-dev librust-syn-dev librust-reqwest-dev librust-itertools-dev librust-rayon-dev
librust-cargo-dev librust-bat-dev librust-rustls-dev librust-ignore-dev librust-chrono-dev
librust-futures-util-dev librust-nom-dev librust-tracing-dev librust-toml-dev librust-url-dev
python3.11-doc libssl-doc libcurl4-doc openssh-client tmux jq ripgrep fd-find bats neofetch fzf
zsh-syntax-highlighting nlohmann-json3-dev libfmt-dev libspdlog-dev libstb-dev googletest catch2
libssl-dev libcurl4-openssl-dev libsqlite3-dev libuv1-dev rust-src redis-server lua5.4 nginx-common
""".split()
