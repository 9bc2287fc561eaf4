//! The decision.

use super::Obstacle;
use crate::config::FastPath;

/// Whether steered packets go past the stack, and why or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// They do.
    pub open: bool,
    /// For people.
    pub reason: String,
}

/// Decides by what the operator says, by whether the kernel `checks_mtu` of
/// routes, and by what was found on the node, or why that is not known.
///
/// A node on which all MTUs are the same loses nothing without that check. The
/// operator may know it, weir does not.
pub fn choose(
    setting: FastPath,
    checks_mtu: bool,
    found: &Result<Vec<Obstacle>, String>,
) -> Choice {
    let choice = |open, reason: &str| Choice { open, reason: reason.to_owned() };
    match (setting, found) {
        (FastPath::On, _) if checks_mtu => {
            choice(true, "fastPath: on, whatever else is on the node")
        }
        (FastPath::On, _) => choice(
            true,
            "fastPath: on; the kernel's route look-up checks no MTU before Linux 5.12: packets \
             that exceed the MTU of their route are lost",
        ),
        (FastPath::Off, _) => choice(false, "fastPath: off"),
        (FastPath::Auto, _) if !checks_mtu => {
            choice(false, "the kernel's route look-up checks no MTU before Linux 5.12")
        }
        (FastPath::Auto, Err(error)) => {
            choice(false, &format!("cannot tell what is on the node: {error}"))
        }
        (FastPath::Auto, Ok(found)) => {
            let mut bars = found.iter().filter(|obstacle| obstacle.bars());
            match (bars.next(), bars.count()) {
                (None, _) => choice(true, "nothing on the node matters to forwarded packets"),
                (Some(first), 0) => choice(false, &first.to_string()),
                (Some(first), more) => choice(false, &format!("{first}, and {more} more")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::{Family, Objection};

    const NOTHING: &str = "nothing on the node matters to forwarded packets";

    fn hook(family: Family, point: u32) -> Obstacle {
        Obstacle::Hook { family, point, function: "f".to_owned() }
    }

    #[test]
    fn auto_is_open_only_while_nothing_sees_forwarded_packets() {
        let chain = |family, point| Obstacle::Chain { family, point, name: "t c".to_owned() };
        let table = |family| Obstacle::LegacyTable { family, name: "nat".to_owned() };
        let [inet, ip, ip6] = [Family::INET, Family::IPV4, Family::IPV6];
        let rule = Obstacle::Rule(Objection {
            family: ip,
            table: "t".to_owned(),
            chain: "c".to_owned(),
            handle: Some(7),
            text: "log".to_owned(),
        });
        let flowtable = Obstacle::Flowtable("inet t f".to_owned());
        let program = Obstacle::TcProgram { interface: "eth0".into(), program: "p".into() };
        let cases: &[(&[Obstacle], bool, &str)] = &[
            (&[], true, NOTHING),
            (&[hook(ip, 0)], false, "netfilter has f at ip prerouting"),
            (&[hook(ip6, 2)], false, "netfilter has f at ip6 forward"),
            (&[hook(ip, 4)], false, "netfilter has f at ip postrouting"),
            (&[hook(ip, 1), hook(ip6, 3)], true, NOTHING),
            (&[hook(ip, 1), hook(ip, 2)], false, "netfilter has f at ip forward"),
            (&[hook(ip, 0), hook(ip, 2)], false, "netfilter has f at ip prerouting, and 1 more"),
            (&[chain(inet, 2), chain(Family::NETDEV, 0)], true, NOTHING),
            (&[chain(inet, 2), rule], false, "nftables has rule 7 of ip t c: log"),
            (&[flowtable], false, "nftables has flowtable inet t f"),
            (&[hook(Family(77), 9)], false, "netfilter has f at family 77 hook 9"),
            (&[table(ip)], false, "iptables (legacy) has table nat"),
            (&[table(ip6), table(ip)], false, "ip6tables (legacy) has table nat, and 1 more"),
            (&[Obstacle::NetfilterPrograms(0), Obstacle::IpsecPolicies(0)], true, NOTHING),
            (&[Obstacle::NetfilterPrograms(2)], false, "2 BPF programs at netfilter's hooks"),
            (&[Obstacle::IpsecPolicies(3)], false, "3 IPsec policies"),
            (&[Obstacle::Ipvs], false, "IPVS has virtual services"),
            (&[program], false, "p is behind weir on eth0"),
        ];
        for (found, open, reason) in cases {
            let choice = choose(FastPath::Auto, true, &Ok(found.to_vec()));
            assert_eq!((choice.open, choice.reason.as_str()), (*open, *reason), "{found:?}");
        }
    }

    #[test]
    fn what_is_not_known_bars() {
        let choice = choose(FastPath::Auto, true, &Err("no".to_owned()));
        assert_eq!(choice.reason, "cannot tell what is on the node: no");
        assert!(!choice.open);
    }

    #[test]
    fn the_operators_word_goes_before_what_was_found() {
        for found in [Ok(vec![]), Ok(vec![hook(Family::IPV4, 2)]), Err(String::new())] {
            assert!(choose(FastPath::On, true, &found).open, "{found:?}");
            assert!(!choose(FastPath::Off, true, &found).open, "{found:?}");
        }
    }

    #[test]
    fn without_a_check_of_mtus_it_takes_the_operators_word() {
        let nothing = "the kernel's route look-up checks no MTU before Linux 5.12";
        for (setting, open, reason) in [
            (FastPath::Auto, false, nothing),
            (FastPath::On, true, &format!("fastPath: on; {nothing}: packets that exceed")),
            (FastPath::Off, false, "fastPath: off"),
        ] {
            let choice = choose(setting, false, &Ok(Vec::new()));
            assert_eq!(choice.open, open, "{setting:?}");
            assert!(choice.reason.starts_with(reason), "{setting:?}: {}", choice.reason);
        }
    }
}
