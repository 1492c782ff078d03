"""`kubectl release`: what a person sees of Releases and does to them, from a terminal or a script.

Read `__main__` first, then `commands`: a module for each command says what it takes and what is
asked of the cluster (`cluster`, `kubeconfig`). What is printed is made by pure modules: `show`,
`explain`, `history`, `checklist`, `plan`, `connections`, in words of `wording`; `output` and
`terminal` print it. `acts` makes Interventions, `follow` watches, `lint` judges `files`.
`exit_codes` is the table that every command keeps to.

`status` imports neither pydantic nor the core nor the client library; a test sees to that.
"""
