# The operator. Nothing is fetched while it builds: its dependencies come from wheels/, made beforehand from the
# hashes of requirements/operator.txt, and Gatewright itself from the wheel in dist/. By hand:
#
#   pip download --require-hashes --only-binary :all: --dest wheels --requirement requirements/operator.txt
#   make dist
#   docker build --tag gatewright:dev .
#
# pip must be that of a Python 3.11 on Linux, or be told so by --python-version and --platform. BASE may be any image
# with Python 3.11 (as `python3`, with `venv`) and the usual certificates. The digest is what is built upon, the tag
# before it only says what that was: `make pin-base` writes the newest one.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS build
RUN python3 -m venv /opt/gatewright
# The dependencies first and alone: this step is kept while only Gatewright changes. pip compiles to bytecode what it
# installs; the running container cannot, its root is read-only.
COPY requirements/operator.txt /tmp/requirements.txt
COPY wheels/ /tmp/wheels/
RUN /opt/gatewright/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-index \
        --find-links /tmp/wheels --require-hashes --requirement /tmp/requirements.txt
COPY dist/ /tmp/dist/
# pip has done its work then, and stays out of the image.
RUN /opt/gatewright/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-index \
        --no-deps /tmp/dist/gatewright-*.whl \
 && /opt/gatewright/bin/python -m pip uninstall --quiet --yes pip setuptools

FROM ${BASE}
COPY --from=build /opt/gatewright /opt/gatewright
ENV PATH=/opt/gatewright/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can see without a passwd file that it is not root.
USER 65532:65532
WORKDIR /
ENTRYPOINT ["gatewright"]
