//! The lines of a journal: `CHECKSUM JSON`, the checksum being the CRC-32 of
//! the JSON in eight hexadecimal digits.

use serde::{Deserialize, Serialize};

use crate::desired::Transaction;

/// The only version of the format.
pub(super) const FORMAT: u32 = 1;

/// What a line is to say.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Line<'a> {
    /// The first line.
    Format(u32),
    /// Any other.
    Transaction(&'a Transaction),
}

/// What a line says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Record {
    /// See [`Line::Format`].
    Format(u32),
    /// See [`Line::Transaction`].
    Transaction(Transaction),
}

/// What is wrong with a line.
#[derive(Debug)]
pub(super) enum Bad {
    /// It is not what was written.
    Damaged,
    /// It is, but it says nothing that this version knows.
    Unknown(String),
}

/// Appends a line.
pub(super) fn write(line: Line<'_>, to: &mut Vec<u8>) -> serde_json::Result<()> {
    let start = to.len();
    to.extend_from_slice(b"00000000 ");
    serde_json::to_writer(&mut *to, &line)?;
    let checksum = format!("{:08x}", crc32fast::hash(&to[start + 9..]));
    to[start..start + 8].copy_from_slice(checksum.as_bytes());
    to.push(b'\n');
    Ok(())
}

/// The record of a line, which is given without its end.
pub(super) fn read(line: &[u8]) -> Result<Record, Bad> {
    let Some((head, json)) = line.split_at_checked(9) else { return Err(Bad::Damaged) };
    if head != format!("{:08x} ", crc32fast::hash(json)).as_bytes() {
        return Err(Bad::Damaged);
    }
    match serde_json::from_slice(json) {
        Ok(Record::Format(format)) if format != FORMAT => {
            Err(Bad::Unknown(format!("it has format {format}, expected {FORMAT}")))
        }
        Ok(record) => Ok(record),
        Err(error) => Err(Bad::Unknown(error.to_string())),
    }
}
