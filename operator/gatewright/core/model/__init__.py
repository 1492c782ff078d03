"""What decisions are made of: the Release as it is, what was observed, and what is to be done.

1. `view`           a Release as it stands; `intervention`: what a person asks of it
2. `needs`          what has to be known before a decision
3. `observation`    what was found out
4. `decision`       the new status, and what is to be done
5. `operation`      one side effect, and how far it is
6. `holding`        something that was changed: what it is to be, and what it is now
7. `pinned_spec`    what a run pins of a spec
"""
