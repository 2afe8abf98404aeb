-- What people and dashboards ask, each below its name and the milliseconds that it may take.
-- {day}, {hour} and {end} are moments: 24 hours, one hour before the end of the data, and that end.

-- top talkers, 24 h: 500
SELECT addr, sum(bytes) AS octets, sum(packets), sum(flows)
FROM hosts_by_hour
WHERE hour >= {day} AND hour < {end} AND addr != '::'
GROUP BY addr ORDER BY octets DESC LIMIT 50;

-- top sources of one exporter, 24 h: 500
SELECT addr, sum(bytes) AS octets
FROM hosts_by_hour
WHERE hour >= {day} AND hour < {end} AND side = 'source' AND exporter_addr = {exporter} AND addr != '::'
GROUP BY addr ORDER BY octets DESC LIMIT 50;

-- conversations, 24 h: 500
SELECT client_addr, server_addr, service, sum(bytes) AS octets, sum(flows)
FROM conversations_by_hour
WHERE hour >= {day} AND hour < {end} AND client_addr != '::'
GROUP BY client_addr, server_addr, service ORDER BY octets DESC LIMIT 50;

-- series of one interface by minute, 24 h: 500
SELECT minute, sumIf(bytes, in_if = 1) * 8 / 60 AS in_bits, sumIf(bytes, out_if = 1) * 8 / 60 AS out_bits
FROM rollup_minute_services
WHERE minute >= {day} AND minute < {end} AND exporter_addr = {exporter} AND (in_if = 1 OR out_if = 1)
GROUP BY minute ORDER BY minute;

-- series of all interfaces of one exporter by 5 minutes, 24 h: 500
SELECT toStartOfFiveMinutes(minute) AS time, in_if, sum(bytes) * 8 / 300 AS bits
FROM rollup_minute_services
WHERE minute >= {day} AND minute < {end} AND exporter_addr = {exporter}
GROUP BY time, in_if ORDER BY time, in_if;

-- services of one exporter by 5 minutes, 24 h: 500
SELECT toStartOfFiveMinutes(minute) AS time, service, sum(bytes) AS octets
FROM rollup_minute_services
WHERE minute >= {day} AND minute < {end} AND exporter_addr = {exporter} AND service IN ('https', 'domain', 'http', 'ssh')
GROUP BY time, service ORDER BY time, service;

-- exporters by 5 minutes, 24 h: 500
SELECT toStartOfFiveMinutes(minute) AS time, exporter_addr, sum(bytes) * 8 / 300 AS bits
FROM rollup_minute_exporters
WHERE minute >= {day} AND minute < {end}
GROUP BY time, exporter_addr ORDER BY time, exporter_addr;

-- services, 24 h: 500
SELECT service, sum(bytes) AS octets, sum(flows)
FROM rollup_hour_services
WHERE hour >= {day} AND hour < {end}
GROUP BY service ORDER BY octets DESC LIMIT 50;

-- interfaces, 24 h: 500
SELECT exporter_addr, in_if, out_if, sum(bytes) AS octets
FROM rollup_hour_services
WHERE hour >= {day} AND hour < {end}
GROUP BY exporter_addr, in_if, out_if ORDER BY octets DESC LIMIT 50;

-- AS matrix, 24 h: 500
SELECT src_as, dst_as, sum(bytes) AS octets
FROM rollup_hour_as
WHERE hour >= {day} AND hour < {end}
GROUP BY src_as, dst_as ORDER BY octets DESC LIMIT 100;

-- countries, 24 h: 500
SELECT dst_country, sum(bytes) AS octets
FROM rollup_hour_as
WHERE hour >= {day} AND hour < {end}
GROUP BY dst_country ORDER BY octets DESC LIMIT 50;

-- raw, one network, 1 h: 3000
SELECT dst_addr, dst_port, sum(bytes) AS octets, count()
FROM flows
WHERE time_received >= {hour} AND time_received < {end} AND src_net_name = 'net-40'
GROUP BY dst_addr, dst_port ORDER BY octets DESC LIMIT 100;

-- raw, one address on either side, 1 h: 3000
SELECT time_received, src_addr, src_port, dst_addr, dst_port, protocol, bytes, packets
FROM flows
WHERE time_received >= {hour} AND time_received < {end} AND (src_addr = {host} OR dst_addr = {host})
ORDER BY time_received DESC LIMIT 1000;

-- raw, port and country, 1 h: 3000
SELECT src_addr, uniq(dst_addr) AS peers, sum(bytes) AS octets
FROM flows
WHERE time_received >= {hour} AND time_received < {end} AND dst_port = 22 AND dst_country != 'JP'
GROUP BY src_addr ORDER BY peers DESC LIMIT 100;

-- raw, SYN only, 1 h: 3000
SELECT src_addr, uniq(dst_addr, dst_port) AS targets
FROM flows
WHERE time_received >= {hour} AND time_received < {end} AND tcp_flags = 2
GROUP BY src_addr ORDER BY targets DESC LIMIT 100;

-- raw, part of a host's name, 1 h: 3000
SELECT dst_host, sum(bytes) AS octets
FROM flows
WHERE time_received >= {hour} AND time_received < {end} AND dst_host LIKE '%a1%'
GROUP BY dst_host ORDER BY octets DESC LIMIT 100;

-- raw, reputation, 1 h: 3000
SELECT src_addr, dst_addr, src_threats, dst_threats, count(), sum(bytes)
FROM flows
WHERE time_received >= {hour} AND time_received < {end} AND (src_threat_tags != '' OR dst_threat_tags != '')
GROUP BY ALL ORDER BY count() DESC LIMIT 100;

-- raw, conversations of UDP with ports, 1 h: 3000
SELECT src_addr, dst_addr, protocol, dst_port, sum(bytes) AS octets
FROM flows
WHERE time_received >= {hour} AND time_received < {end} AND protocol = 17
GROUP BY src_addr, dst_addr, protocol, dst_port ORDER BY octets DESC LIMIT 100;

-- raw, spread over minutes, 1 h: 3000
SELECT minute, sum(bytes) * 8 / 60 AS bits
FROM flows_by_minute
WHERE time_received >= {hour} AND time_received < {end} AND minute >= {hour} AND dst_port = 443
GROUP BY minute ORDER BY minute;
