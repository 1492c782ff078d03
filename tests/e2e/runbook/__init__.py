"""The sample `manifests/samples/foco-vercel.yaml`, run to its end on this machine.

sample.py     the sample itself: its Connections lead to the stand-ins, its times are short image/
what its Jobs run: the runbook's commands, for the stand-ins programs.py   k6, Node, npm and
Playwright, which those commands are standins.py   one of each system: fakes of tests/fakes, and
real servers where Debian has them services.py   those of them that only the runbook needs;
database.py: PostgreSQL; seeds.py: their secrets ground.py     the cluster, the operator as users
install it, and a record of every object's every version scene.py      a namespace, a world of
stand-ins, and ana, who approves, rotates keys and confirms
"""
