-- Made from ../013_merging.sql by 'cargo xtask cluster-sql': edit that.
ALTER TABLE {database}.flows_local ON CLUSTER '{cluster}'
    MODIFY SETTING merge_selector_base = 16, merge_max_block_size = 32768;

ALTER TABLE {database}.rollup_minute_services_local ON CLUSTER '{cluster}'
    MODIFY SETTING merge_selector_base = 16, merge_max_block_size = 32768;

ALTER TABLE {database}.rollup_minute_as_local ON CLUSTER '{cluster}'
    MODIFY SETTING merge_selector_base = 16, merge_max_block_size = 32768;

ALTER TABLE {database}.rollup_hour_services_local ON CLUSTER '{cluster}'
    MODIFY SETTING merge_selector_base = 16, merge_max_block_size = 32768;

ALTER TABLE {database}.rollup_hour_as_local ON CLUSTER '{cluster}'
    MODIFY SETTING merge_selector_base = 16, merge_max_block_size = 32768;
