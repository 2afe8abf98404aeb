-- Made from ../013_merging.sql by 'cargo xtask cluster-sql': edit that.
ALTER TABLE {database}.flows_local ON CLUSTER '{cluster}'
    MODIFY SETTING merge_selector_base = 16, merge_max_block_size = 32768;
