//! `weir doctor`, as text.

use super::answers::Answer;
use super::seeing::DoctorArgs;
use super::{EXIT_DONE, EXIT_FAILED};
use crate::api::Client;
use crate::doctor::{Finding, Level, Report, examine, gather};

/// Looks at the node.
pub(super) async fn run(client: &Client, args: DoctorArgs) -> anyhow::Result<Answer> {
    let report = examine(&gather(client, &args.config).await?, &args.ignore);
    let code = if report.problems == 0 { EXIT_DONE } else { EXIT_FAILED };
    Ok((super::show(args.output, &report, table)?, code))
}

fn table(report: &Report) -> String {
    let width = report.findings.iter().map(|one| one.check.len()).max().unwrap_or(0);
    let mut text: String = report.findings.iter().map(|one| lines(one, width)).collect();
    text.push_str(&match report.problems {
        0 => "no problem was found\n".to_owned(),
        1 => "1 problem was found\n".to_owned(),
        many => format!("{many} problems were found\n"),
    });
    text
}

fn lines(Finding { check, level, text, advice }: &Finding, width: usize) -> String {
    let level = match level {
        Level::Ok => "ok",
        Level::Note => "note",
        Level::Problem => "PROBLEM",
    };
    let mut lines = format!("{level:<7}  {check:<width$}  {text}\n");
    if let Some(advice) = advice {
        lines.push_str(&format!("{:7}  {:width$}  -> {advice}\n", "", ""));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_shown_with_what_to_do() {
        let finding = |check, level, advice: Option<&str>| Finding {
            check,
            level,
            text: "a text".into(),
            advice: advice.map(str::to_owned),
        };
        let findings =
            vec![finding("agent", Level::Ok, None), finding("jit", Level::Problem, Some("do"))];
        let expected = "\
ok       agent  a text
PROBLEM  jit    a text
                -> do
1 problem was found
";
        assert_eq!(table(&Report { problems: 1, findings }), expected);
    }
}
