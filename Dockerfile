# syntax=docker/dockerfile:1
# Targets `cpu` (default) and `cuda`. Linted with hadolint, not built: there was no Docker engine where it was written.
FROM python:3.11-slim AS base
# The engine compiles its steps when it first starts, and keeps them in a folder that a volume can outlive.
RUN useradd --create-home antiphon && install -d -o antiphon /var/cache/antiphon
WORKDIR /app
ENV OMP_WAIT_POLICY=PASSIVE PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=/var/cache/antiphon
COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY model model
COPY clients clients
COPY benchmarks benchmarks
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
# Keys come from ANTIPHON_API_KEYS; without one the server refuses to listen beyond loopback.
ENTRYPOINT ["antiphon", "serve", "--host", "0.0.0.0"]

# Our own engine computes on CPUs only; on a GPU vLLM does, and brings its own torch.
FROM base AS cuda
RUN pip install --no-cache-dir ".[vllm]"
USER antiphon
CMD ["--engine", "vllm"]

FROM base AS cpu
ARG TORCH_INDEX=
# TORCH_INDEX: where to get a CPU build of torch. torchaudio's compiled extension needs CUDA; without it, it falls back to pure PyTorch.
RUN pip install --no-cache-dir torch==2.13.0 ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
    && pip install --no-cache-dir --no-deps "torchaudio==2.11.*" \
    && find / -path "*/torchaudio/lib/*.so" -delete \
    && pip install --no-cache-dir .
USER antiphon
