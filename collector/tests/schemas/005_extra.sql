-- What exporters say in elements that fill no column: "PEN.name" -> text. Filled only where
-- decode.extra asks for it. PEN 0 is IANA; an element whose name is not known is "PEN.id".
ALTER TABLE {database}.flows
    ADD COLUMN IF NOT EXISTS extra Map(LowCardinality(String), String) CODEC(ZSTD(1));
