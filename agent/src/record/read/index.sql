CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE exchange (
  session TEXT NOT NULL, exchange INTEGER NOT NULL, time TEXT NOT NULL, tag TEXT NOT NULL, unit TEXT, host TEXT NOT NULL,
  status INTEGER, verdict TEXT NOT NULL, rule TEXT, segment INTEGER NOT NULL, offset INTEGER NOT NULL, summary TEXT
);
CREATE INDEX by_time ON exchange (time);
CREATE INDEX by_unit ON exchange (unit, time);
CREATE INDEX by_tag ON exchange (tag, time);
CREATE INDEX by_host ON exchange (host, time);
CREATE INDEX by_segment ON exchange (segment);
CREATE TABLE open_session (session TEXT PRIMARY KEY, begin TEXT NOT NULL);
CREATE TABLE open_exchange (session TEXT NOT NULL, exchange INTEGER NOT NULL, summary TEXT NOT NULL);
