-- Two databases and their roles: the server uses "prefect", the workers use "records". Neither can read the other's
-- database, so an attacker on the server can't write an approval. The pages use "fleetpatch_pages": the migration of the
-- records, or `fleetpatch web grant`, lets it read all records and write only the tables of the pages. psql runs this
-- file as superuser when PostgreSQL creates its data. A second run sets the passwords from the environment.
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

\connect fleetpatch
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
