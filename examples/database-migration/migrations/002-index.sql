CREATE INDEX IF NOT EXISTS visits_by_page ON visits (page);
