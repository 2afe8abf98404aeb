-- Wider merges: every row of flows is written again by merges, which is most of what ClickHouse does
-- at a high rate. Some fifteen parts of a size become one instead of five or six, so a row is
-- written again less often, and 32,768 rows go through a merge at once. See README.md here.
ALTER TABLE {database}.flows
    MODIFY SETTING merge_selector_base = 16, merge_max_block_size = 32768;
