//! What enrichment puts into rows, seen from outside: files, exporters and servers in, SQL out.

mod columns;
mod helpers;
mod kit;
mod late;
mod reload;
mod replay;
mod swap;
