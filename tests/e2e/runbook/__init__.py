"""The sample `manifests/samples/foco-vercel.yaml`, run to its end on this machine.

sample.py     the sample itself: its Connections lead to the stand-ins, its times are short, its Jobs tell what they find
standins.py   one of each system: fakes of tests/fakes, and real servers where Debian has them
scene.py      a namespace, a world of stand-ins, and ana, who approves, rotates keys and confirms
"""
