-- What belongs to accounts lies together, an account's rows of every table in one place; the rest is on every node.
-- A row is on one node only: rows of tables with copies cannot be locked.

SET LOCAL citus.shard_replication_factor = 1;
SET LOCAL citus.multi_shard_modify_mode = 'sequential';

SELECT create_reference_table('ledger');
SELECT create_reference_table('catalog_entry');
SELECT create_reference_table('key_use');

SELECT create_distributed_table('head', 'account');
SELECT create_distributed_table('identity', 'account', colocate_with => 'head');
SELECT create_distributed_table('entry', 'account', colocate_with => 'head');
SELECT create_distributed_table('frame', 'account', colocate_with => 'head');
SELECT create_distributed_table('posting', 'account', colocate_with => 'head');
SELECT create_distributed_table('series', 'account', colocate_with => 'head');
SELECT create_distributed_table('folded', 'account', colocate_with => 'head');
SELECT create_distributed_table('run', 'account', colocate_with => 'head');
SELECT create_distributed_table('replayed', 'account', colocate_with => 'head');
SELECT create_distributed_table('resource', 'account', colocate_with => 'head');
SELECT create_distributed_table('space', 'account', colocate_with => 'head');
SELECT create_distributed_table('counted_once', 'account', colocate_with => 'head');
SELECT create_distributed_table('record', 'account', colocate_with => 'head');
SELECT create_distributed_table('hold', 'account', colocate_with => 'head');
SELECT create_distributed_table('crossing', 'account', colocate_with => 'head');
SELECT create_distributed_table('counter', 'account', colocate_with => 'head');
