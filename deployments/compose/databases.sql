-- Two databases and their roles: the server uses "prefect", the workers use "records". Neither can read the other's
-- database, so an attacker on the server can't write an approval. The pages use "fleetpatch_pages": the migration of the
-- records, or `fleetpatch web grant`, lets it read all records and write only the tables of the pages. psql runs this
-- file as superuser when PostgreSQL creates its data. A second run sets the passwords from the environment, and gives
-- the objects in each database to its role.
\set ON_ERROR_STOP on
\getenv prefect_password PREFECT_DB_PASSWORD
\getenv records_password RECORDS_DB_PASSWORD
\getenv pages_password PAGES_DB_PASSWORD

SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY['prefect', 'records', 'fleetpatch_pages']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE prefect LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'prefect_password';
ALTER ROLE records LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'records_password';
ALTER ROLE fleetpatch_pages LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'pages_password';

SELECT format('CREATE DATABASE %I ENCODING ''UTF8'' TEMPLATE template0', name)
  FROM unnest(ARRAY['prefect', 'fleetpatch']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
ALTER DATABASE prefect OWNER TO prefect;
ALTER DATABASE fleetpatch OWNER TO records;
REVOKE ALL ON DATABASE prefect, fleetpatch, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE fleetpatch TO fleetpatch_pages;

-- Objects of extensions stay with the superuser. A sequence of a table follows its table.
SELECT $$
SELECT format('ALTER %s %s OWNER TO %I', CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN
              'MATERIALIZED VIEW' ELSE 'TABLE' END, oid::regclass, pg_get_userbyid((SELECT datdba FROM pg_database
              WHERE datname = current_database())))
  FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S', 'v', 'm')
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype IN ('a', 'i', 'e'))
UNION ALL
SELECT format('ALTER TYPE %s OWNER TO %I', oid::regtype, pg_get_userbyid((SELECT datdba FROM pg_database
              WHERE datname = current_database())))
  FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_type.oid AND deptype = 'e')
UNION ALL
SELECT format('ALTER FUNCTION %s OWNER TO %I', oid::regprocedure, pg_get_userbyid((SELECT datdba FROM pg_database
              WHERE datname = current_database())))
  FROM pg_proc WHERE pronamespace = 'public'::regnamespace
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
$$ AS theirs \gset
\connect prefect
:theirs \gexec
\connect fleetpatch
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
:theirs \gexec
