//! The results as tables and diagrams.

use anyhow::Result;

use super::{Latency, Measured, Report, Shares};
use crate::plot::{self, Bars, Figure};
use crate::report::{Summary, Table};

impl Measured {
    /// Rate and ratio.
    fn speed(&self, unit: f64, digits: usize) -> String {
        let (rate, ratio) = (self.rate.median / unit, self.rate_ratio.median);
        format!("{rate:.digits$} ({ratio:.2})")
    }

    /// CPU time and what is above the first system.
    fn cost(&self, unit: f64, digits: usize) -> String {
        let (cpu, more) = (self.cpu.median * unit, self.cpu_more.median * unit);
        format!("{cpu:.digits$} ({more:+.digits$})")
    }
}

impl Latency {
    /// In microseconds, and what is above the first system.
    fn cell(&self, at: usize) -> String {
        format!("{:.0} ({:+.0})", self.seconds[at].median * 1e6, self.more[at].median * 1e6)
    }
}

impl Report {
    /// As tables for people.
    pub fn tables(&self) -> Vec<Table> {
        vec![self.speed_table(), self.cpu_table(), self.latency_table(), self.share_table()]
    }

    fn speed_table(&self) -> Table {
        let title = format!(
            "Throughput: median of {} rounds (ratio to plain forwarding in the same round)",
            self.rounds
        );
        let header =
            ["system", "short connections/s", "requests/s", "GB/s to endpoint", "GB/s to client"];
        let mut table = Table::new(&title, &header);
        for line in &self.systems {
            table.row([
                line.system.to_owned(),
                line.connections.speed(1.0, 0),
                line.requests.speed(1.0, 0),
                line.upload.speed(1e9, 2),
                line.download.speed(1e9, 2),
            ]);
        }
        table
    }

    fn cpu_table(&self) -> Table {
        let title = "CPU time of the whole machine, clients and servers included \
                     (above plain forwarding in the same round)";
        let header =
            ["system", "us/connection", "us/request", "s/GB to endpoint", "s/GB to client"];
        let mut table = Table::new(title, &header);
        for line in &self.systems {
            table.row([
                line.system.to_owned(),
                line.connections.cost(1e6, 1),
                line.requests.cost(1e6, 2),
                line.upload.cost(1e9, 3),
                line.download.cost(1e9, 3),
            ]);
        }
        table
    }

    fn share_table(&self) -> Table {
        let header = ["system", "wanted", "observed", "standard deviation", "connections", "reset"];
        let mut table = Table::new("Share of the smaller subset, of short connections", &header);
        for line in &self.systems {
            let Shares { wanted, observed, connections, reset, deviation } = line.shares;
            table.row([
                line.system.to_owned(),
                format!("{:.2} %", wanted * 100.0),
                format!("{:.2} %", observed * 100.0),
                format!("{:.2} %", deviation * 100.0),
                connections.to_string(),
                reset.to_string(),
            ]);
        }
        table
    }

    fn latency_table(&self) -> Table {
        let [requests, connections] = self.rates;
        let title = format!(
            "Latency in us at {requests:.0} requests/s on 32 connections, and at \
             {connections:.0} short connections/s: percentiles, median of {} rounds (above plain \
             forwarding in the same round)",
            self.rounds
        );
        let header =
            ["system", "request p50", "p99", "p99.9", "short connection p50", "p99", "p99.9"];
        let mut table = Table::new(&title, &header);
        for line in &self.systems {
            let cells = line.latency.iter().flat_map(|way| (0..3).map(|at| way.cell(at)));
            table.row(std::iter::once(line.system.to_owned()).chain(cells));
        }
        table
    }

    /// As diagrams.
    pub fn figures(&self) -> Result<Vec<Figure>> {
        let names: Vec<&str> = self.systems.iter().map(|line| line.system).collect();
        let values = |value: &dyn Fn(&super::Line) -> Summary| {
            self.systems.iter().map(value).collect::<Vec<_>>()
        };
        let speed = |title: &str, values| Bars {
            title: title.to_owned(),
            unit: "ratio to plain forwarding; more is better",
            values,
            reference: Some(1.0),
            digits: 2,
        };
        let cost = |title: &str, values, digits| Bars {
            title: title.to_owned(),
            unit: "us; less is better",
            values,
            reference: None,
            digits,
        };
        let throughput = [
            speed("Short connections per second", values(&|line| line.connections.rate_ratio)),
            speed("Requests per second", values(&|line| line.requests.rate_ratio)),
            speed("One stream to the endpoint", values(&|line| line.upload.rate_ratio)),
            speed("One stream to the client", values(&|line| line.download.rate_ratio)),
        ];
        let micros = |summary: &Summary| summary.map(|seconds| seconds * 1e6);
        let latency =
            |way: usize, at: usize| values(&|line| micros(&line.latency[way].seconds[at]));
        let [requests, connections] = self.rates;
        let (of_requests, of_connections) =
            (format!("{requests:.0} requests/s"), format!("{connections:.0} connections/s"));
        let costs = [
            cost(
                "CPU time of a short connection",
                values(&|line| micros(&line.connections.cpu)),
                1,
            ),
            cost("CPU time of a request", values(&|line| micros(&line.requests.cpu)), 1),
            cost(&format!("Median latency, {of_requests}"), latency(0, 0), 0),
            cost(&format!("99th percentile, {of_requests}"), latency(0, 1), 0),
            cost(&format!("Median latency, {of_connections}"), latency(1, 0), 0),
            cost(&format!("99th percentile, {of_connections}"), latency(1, 1), 0),
        ];
        Ok(vec![
            Figure {
                name: "e2e-throughput",
                caption: "Throughput of each system as a ratio to plain forwarding".to_owned(),
                svg: plot::bars(&names, &throughput)?,
            },
            Figure {
                name: "e2e-cost",
                caption: "CPU time and latency of each system".to_owned(),
                svg: plot::bars(&names, &costs)?,
            },
        ])
    }
}
