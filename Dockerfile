# For machines with an NVIDIA GPU:
#   docker build -t sfpo-rllib .
#   docker run --gpus all --shm-size=8g --rm -it -v "$PWD/runs:/app/runs" sfpo-rllib
# vLLM's wheels bring CUDA; the host needs its driver and the NVIDIA container toolkit.
# Not built yet by anyone: say what it lacks.
FROM python:3.11-slim

# A C compiler for what torch and triton compile when they first run; make for the quickstart.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY . .
RUN SFPO_STACK=gpu python3.11 tools/bootstrap.py
ENV PATH="/app/.venv/bin:$PATH" SFPO_STACK=gpu

CMD ["python", "tuned_examples/quickstart_arithmetic.py"]
