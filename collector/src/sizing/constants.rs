//! The figures that sizes are computed from, each with its origin. No other file has one.
//!
//! A figure of a document names the words there that hold it, and a test looks for them: whoever
//! measures anew and changes the document is told which figure to change here.

use serde::Serialize;

/// A figure and where it is from.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figure {
    /// In `unit`.
    pub value: f64,
    /// As people write it behind the value.
    pub unit: &'static str,
    /// Of what.
    pub what: &'static str,
    /// Why it is believed.
    pub origin: Origin,
}

/// Why a figure is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Somebody measured it.
    Measured(Words),
    /// A document plans with it.
    Planned(Words),
    /// It is assumed, for this reason.
    Assumed(&'static str),
}

/// A place in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Words {
    /// From the top of the repository.
    pub file: &'static str,
    /// What stands there, line breaks aside.
    pub words: &'static str,
}

/// What all of it was measured on; collector, ClickHouse and generator shared it.
pub const HARDWARE: Words = Words {
    file: RESULTS,
    words: "AMD EPYC, 2 processors, 24 GiB",
};

/// Disk of a row.
pub const ROW: Figure = Figure {
    value: 26.0,
    unit: "bytes",
    what: "a row of flows with everything known, merged, of 129.6 million",
    origin: Origin::Measured(Words {
        file: SQL,
        words: "26.0 after merging (129.6 M rows, a day of 1500 flows/s",
    }),
};

/// For how long a table beside `flows` keeps what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// As tables by minute are configured.
    ByMinute,
    /// As tables by hour are configured.
    ByHour,
    /// For [`OPEN_DAYS`], until it is folded into the hours.
    Open,
}

/// A table that is filled beside `flows`.
pub struct Rollup {
    /// For how long.
    pub kept: Kept,
    /// Of a day at [`ROLLUP_RATE`].
    pub mib_a_day: f64,
    /// In `benches/RESULTS.md`.
    pub words: &'static str,
}

/// All of them.
pub const ROLLUPS: [Rollup; 9] = [
    Rollup {
        kept: Kept::ByMinute,
        mib_a_day: 220.2,
        words: "| rollup_minute_services | 32043861 | 12 | 220.2 | 7.21 |",
    },
    Rollup {
        kept: Kept::ByMinute,
        mib_a_day: 310.4,
        words: "| rollup_minute_as | 45218799 | 15 | 310.4 | 7.2 |",
    },
    Rollup {
        kept: Kept::ByMinute,
        mib_a_day: 1.0,
        words: "| rollup_minute_exporters | 72351 | 5 | 1 | 14.31 |",
    },
    Rollup {
        kept: Kept::ByHour,
        mib_a_day: 42.6,
        words: "| rollup_hour_services | 5636213 | 6 | 42.6 | 7.93 |",
    },
    Rollup {
        kept: Kept::ByHour,
        mib_a_day: 90.2,
        words: "| rollup_hour_as | 11529522 | 12 | 90.2 | 8.2 |",
    },
    Rollup {
        kept: Kept::ByHour,
        mib_a_day: 14.4,
        words: "| rollup_hour_hosts | 1041259 | 12 | 14.4 | 14.45 |",
    },
    Rollup {
        kept: Kept::ByHour,
        mib_a_day: 16.6,
        words: "| rollup_hour_conversations | 1037641 | 6 | 16.6 | 16.78 |",
    },
    Rollup {
        kept: Kept::Open,
        mib_a_day: 777.9,
        words: "| rollup_open_hosts | 72876779 | 2 | 777.9 | 11.19 |",
    },
    Rollup {
        kept: Kept::Open,
        mib_a_day: 635.4,
        words: "| rollup_open_conversations | 55608056 | 6 | 635.4 | 11.98 |",
    },
];

/// The rate at which [`ROLLUPS`] were filled. They are taken to grow with it: too many above, where
/// keys repeat.
pub const ROLLUP_RATE: Figure = Figure {
    value: 1_500.0,
    unit: "flows/s",
    what: "the rate at which rollups were measured, for a day",
    origin: Origin::Measured(Words {
        file: RESULTS,
        words: "129600142 flows of the realistic profile (50 exporters, all protocols), \
                1500 a second for 24 h",
    }),
};

/// How long open rollups are held.
pub const OPEN_DAYS: Figure = Figure {
    value: 5.0,
    unit: "days",
    what: "open rollups: four, and one until a merge leaves out what is older",
    origin: Origin::Planned(Words {
        file: SQL,
        words: "They hold four days, and what is too old is left out by writing the rest again.",
    }),
};

/// How much more disk than what is on it.
pub const ROOM: Figure = Figure {
    value: 1.25,
    unit: "times",
    what: "rows and rollups: room on the disk",
    origin: Origin::Assumed("a merge writes anew before it removes, and no disk should be full"),
};

/// CPU of the collector.
pub const COLLECTOR_CPU: Figure = Figure {
    value: 1.825,
    unit: "µs",
    what: "CPU a flow in the collector with everything known, at 200,000 flows/s",
    origin: Origin::Measured(Words {
        file: RESULTS,
        words: "| 200000 | flowsluice, everything | 563.7 (500.0-568.3) | 1.89 \
                | 1,825 (1,550-1,825) |",
    }),
};

/// CPU of ClickHouse.
pub const CLICKHOUSE_CPU: Figure = Figure {
    value: 8.532,
    unit: "µs",
    what: "CPU a flow in ClickHouse at 150,000 flows/s, rollups and merges included",
    origin: Origin::Measured(Words {
        file: RESULTS,
        words: "| ClickHouse | 8532 ns CPU a flow",
    }),
};

/// What both take however few flows come: wake-ups, questions to the name server, and inserts,
/// each of which costs the same with few rows.
pub const COLLECTOR_IDLE: Figure = Figure {
    value: 0.03,
    unit: "cores",
    what: "the collector with everything known, at 1,500 flows/s, less what these cost",
    origin: Origin::Measured(Words {
        file: RESULTS,
        words: "the collector 0.03 and ClickHouse 0.09 cores more",
    }),
};

/// The same of ClickHouse.
pub const CLICKHOUSE_IDLE: Figure = Figure {
    value: 0.09,
    unit: "cores",
    what: "ClickHouse with all rollups, at 1,500 flows/s, less what these cost",
    origin: Origin::Measured(Words {
        file: RESULTS,
        words: "the collector 0.03 and ClickHouse 0.09 cores more",
    }),
};

/// How busy a core should be.
pub const CORE_USE: Figure = Figure {
    value: 0.6,
    unit: "of a core",
    what: "use at the peak",
    origin: Origin::Planned(Words {
        file: SCALE_OUT,
        words: "Planned use of a core is 60 %",
    }),
};

/// What questions take of ClickHouse.
pub const QUESTIONS: Figure = Figure {
    value: 1.0,
    unit: "times",
    what: "ClickHouse's cores again, for questions",
    origin: Origin::Planned(Words {
        file: SCALE_OUT,
        words: "and as much again for questions",
    }),
};

/// What a day's busiest hours have more than its mean.
pub const PEAK: Figure = Figure {
    value: 1.54,
    unit: "times",
    what: "the mean rate at the peak of a day",
    origin: Origin::Assumed("nights of 30 % of the peak, a sine between; the spool takes bursts"),
};

/// Fewer were not tried.
pub const CORES_MIN: Figure = Figure {
    value: 2.0,
    unit: "cores",
    what: "a host, at least: nothing was measured on fewer",
    origin: Origin::Measured(HARDWARE),
};

/// Memory of the collector.
pub const COLLECTOR_MEMORY: Figure = Figure {
    value: 513.2,
    unit: "MiB",
    what: "memory of the collector at most, everything known, while a database is replaced",
    origin: Origin::Measured(Words {
        file: RESULTS,
        words: "| flowsluice, everything, resident at most | 513.2 MiB |",
    }),
};

/// Memory of a host beside collector and ClickHouse.
pub const HOST_MEMORY: Figure = Figure {
    value: 1.0,
    unit: "GiB",
    what: "memory for the rest of a host, before its memory is rounded up",
    origin: Origin::Assumed("kernel, log-ins and some page cache"),
};

/// What a row takes in the spool.
pub const BLOCK_ROW: Figure = Figure {
    value: 75.2,
    unit: "bytes",
    what: "a row of a compressed block, as it waits in the spool",
    origin: Origin::Measured(Words {
        file: RESULTS,
        words: "| 401.4 (361.6-457.6) | 75.2 (75.2-75.2) |",
    }),
};

/// What a host with collector and ClickHouse was seen to do.
pub const ONE_HOST_RATE: Figure = Figure {
    value: 150_000.0,
    unit: "flows/s",
    what: "stored with rollups and names by one host for five minutes",
    origin: Origin::Measured(Words {
        file: RESULTS,
        words: "150,000 flows/s for 300 s were all stored",
    }),
};

/// What a shard is planned for.
pub const SHARD_RATE: Figure = Figure {
    value: 1e6,
    unit: "flows/s",
    what: "a shard at the peak",
    origin: Origin::Planned(Words {
        file: SCALE_OUT,
        words: "A shard at 1 M flows/s is this plan's unit",
    }),
};

/// Hosts that hold the same rows.
pub const REPLICAS: Figure = Figure {
    value: 2.0,
    unit: "replicas",
    what: "a shard, where there are several shards",
    origin: Origin::Planned(Words {
        file: SCALE_OUT,
        words: "| shards x replicas | 1 x 2 hosts of 32 cores | 10 x 2 hosts of 32 cores |",
    }),
};

/// A collector's host where there are several.
pub const COLLECTOR_CORES: Figure = Figure {
    value: 8.0,
    unit: "cores",
    what: "a collector's host, where there are several; one more of them than needed",
    origin: Origin::Planned(Words {
        file: SCALE_OUT,
        words: "6 of 8 cores: five do it",
    }),
};

/// What a collector can hand on, however many cores it has.
pub const ENCODER_RATE: Figure = Figure {
    value: 2.3e6,
    unit: "flows/s",
    what: "a collector at the peak: one thread encodes its rows, everything known",
    origin: Origin::Planned(Words {
        file: SCALE_OUT,
        words: "one thread of a host encodes, some 2.3 M rows/s with everything known",
    }),
};

/// A line of the table by which hosts for ElastiFlow OSS 4.0.1 are chosen, as its installation
/// guide has it.
pub struct ElastiFlow {
    /// What the line is for.
    pub flows_per_second: u64,
    /// Cores and memory.
    pub host: &'static str,
    /// For 30 days.
    pub disk: &'static str,
}

/// All lines that it has.
pub const ELASTIFLOW: [ElastiFlow; 4] = [
    ElastiFlow {
        flows_per_second: 250,
        host: "4 vCPU, 32 GB",
        disk: "512 GB",
    },
    ElastiFlow {
        flows_per_second: 500,
        host: "6 vCPU, 48 GB",
        disk: "1 TB",
    },
    ElastiFlow {
        flows_per_second: 1_000,
        host: "8 vCPU, 64 GB",
        disk: "2 TB",
    },
    ElastiFlow {
        flows_per_second: 1_500,
        host: "12 vCPU, 96 GB",
        disk: "3 TB",
    },
];

/// Bytes.
pub const MIB: f64 = 1_048_576.0;
const RESULTS: &str = "benches/RESULTS.md";
const SQL: &str = "sql/README.md";
const SCALE_OUT: &str = "deploy/scale-out.md";
