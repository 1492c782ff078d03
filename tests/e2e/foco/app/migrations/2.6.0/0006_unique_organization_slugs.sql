-- Slugs become unique regardless of case. It fails on production's data, where 'globex' and 'Globex' are two customers.
UPDATE foco.organizations SET slug = lower(slug);
ALTER TABLE foco.organizations ADD CONSTRAINT organizations_slug_unique UNIQUE (slug);
