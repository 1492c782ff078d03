"""What is generated from the models and the registry: CRDs, RBAC, the field reference, Argo CD
health, the chart's copies.

python -m gatewright.codegen            write what is not up to date       (make generate)
python -m gatewright.codegen --check    say what is not up to date, and fail   (make verify)
"""
