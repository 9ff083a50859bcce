-- What MLflow 3.17.2 wrote: one experiment, one run with a parameter and two metrics, one of them NaN.
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
CREATE TABLE "latest_metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT, 
	step BIGINT NOT NULL, 
	is_nan BOOLEAN NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT latest_metric_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
CREATE TABLE "experiments" (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), 
	creation_time BIGINT, 
	last_update_time BIGINT, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT uq_experiments_workspace_name UNIQUE (workspace, name)
);
INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id, deleted_time) VALUES ('bf4b29c6e38347eb92a88b7b9aac99ea', 'unique-snail-142', 'UNKNOWN', '', '', 'unknown', 'FINISHED', 1795527959068, 1795527959087, '', 'active', 'mlruns', 1, NULL);
INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time, workspace) VALUES (0, 'Default', 'mlruns', 'active', 1795527959061, 1795527959061, 'default');
INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time, workspace) VALUES (1, 'alignment-eval', 'mlruns', 'active', 1795527959062, 1795527959062, 'default');
INSERT INTO params (key, value, run_uuid) VALUES ('model', 'Qwen/Qwen2.5-0.5B', 'bf4b29c6e38347eb92a88b7b9aac99ea');
INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES ('accuracy', 0.75, 1795527959083, 1, 0, 'bf4b29c6e38347eb92a88b7b9aac99ea');
INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES ('nanny', 0.0, 1795527959086, 0, 1, 'bf4b29c6e38347eb92a88b7b9aac99ea');
INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES ('accuracy', 0.5, 1795527959080, 'bf4b29c6e38347eb92a88b7b9aac99ea', 0, 0);
INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES ('accuracy', 0.75, 1795527959083, 'bf4b29c6e38347eb92a88b7b9aac99ea', 1, 0);
INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES ('nanny', 0.0, 1795527959086, 'bf4b29c6e38347eb92a88b7b9aac99ea', 0, 1);
INSERT INTO tags (key, value, run_uuid) VALUES ('mlflow.runName', 'unique-snail-142', 'bf4b29c6e38347eb92a88b7b9aac99ea');
