-- Beside Prefect's own database: fleetpatch's records. Run once, when PostgreSQL makes its data.
CREATE DATABASE fleetpatch ENCODING 'UTF8' TEMPLATE template0;
