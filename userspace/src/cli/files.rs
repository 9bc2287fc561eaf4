//! Documents to send: the agent reads them, so that it can say what is wrong where.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::api::types::FileText;
use crate::source;

/// The text of files, of directories' `*.yaml` and `*.yml` files, and of
/// standard input for `-`.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<FileText>> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            texts.push(standard_input()?);
        } else if path.is_dir() {
            let files =
                source::list(path).with_context(|| format!("cannot list {}", path.display()))?;
            if files.is_empty() {
                bail!("{}: no *.yaml or *.yml file is in this directory", path.display());
            }
            for file in files {
                texts.push(text(&file)?);
            }
        } else {
            texts.push(text(path)?);
        }
    }
    Ok(texts)
}

fn text(path: &Path) -> Result<FileText> {
    Ok(FileText { name: path.display().to_string(), text: source::read(path)? })
}

fn standard_input() -> Result<FileText> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(source::MAX_FILE_SIZE + 1)
        .read_to_end(&mut bytes)
        .context("cannot read standard input")?;
    if bytes.len() as u64 > source::MAX_FILE_SIZE {
        bail!("standard input is larger than {} bytes", source::MAX_FILE_SIZE);
    }
    let text = source::decode(bytes).map_err(|what| anyhow!("standard input: {what}"))?;
    Ok(FileText { name: "<stdin>".to_owned(), text })
}
