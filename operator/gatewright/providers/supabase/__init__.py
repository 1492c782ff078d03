"""Supabase: a project, by the Management API.

1. `connection.py`      the API: limits, projects, one statement of SQL
2. `gate.py`            advisors, backups, health, API keys, or one value by SQL
3. `restore_points.py`  a restore point, made once and found again
4. `action.py`          a restore point, and the two ways back
"""
