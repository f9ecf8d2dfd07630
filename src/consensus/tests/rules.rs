//! One replica, fed by hand: each rule of the protocol as what it does and does not do (`script` has the words).

use expect_test::expect;

use super::script::check;

#[test]
fn rule_3_a_second_vote_in_the_same_view_is_refused() {
    check(
        &["propose v1 A", "propose v1 B"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        evidence against 3"#]],
    );
}

#[test]
fn rule_3_nor_is_it_cast_after_a_restart() {
    check(
        &["propose v1 A", "restart", "propose v1 B"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        vote v1 A"#]],
    );
}

#[test]
fn rule_3_an_own_timeout_forbids_the_commit_vote_but_not_the_vote() {
    check(
        &["after 2500 view", "propose v1 A", "qc A"],
        expect![[r#"
        persist
        timeout v1 with ?
        check A
        persist A
        vote v1 A"#]],
    );
}

#[test]
fn rule_3_a_vote_waits_for_all_ancestors_to_be_executed() {
    check(
        &[
            "make v1 slowA on G",
            "propose v2 B on slowA",
            "give slowA",
            "after 400 fetch",
            "give slowA",
            "checked slowA",
        ],
        expect![[r#"
            persist
            commit v1 slowA
            check slowA
            check B
            persist slowA B
            vote v2 B"#]],
    );
}

#[test]
fn rule_2_a_height_that_skips_and_a_parent_that_is_not_justified_get_no_vote() {
    check(
        &["propose v1 A", "propose v3 C on A", "propose v3 C on A tc v2 A"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        persist
        commit v1 A
        check C
        persist C
        vote v3 C"#]],
    );
}

#[test]
fn rule_2_after_a_timeout_certificate_less_than_its_highest_qc_is_refused() {
    check(
        &["propose v1 A", "qc A", "propose v3 C on G tc v2 A", "propose v3 D on A tc v2 A"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        persist
        commit v1 A
        evidence against 1
        check D
        persist D
        vote v3 D"#]],
    );
}

#[test]
fn rule_4_a_commit_vote_is_cast_once_and_after_its_qc_is_durable() {
    check(
        &["propose v1 A", "vote 1 v1 A", "vote 2 v1 A", "vote 3 v1 A", "qc A"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        persist
        commit v1 A"#]],
    );
}

#[test]
fn rule_4_a_commit_vote_is_cast_without_the_block() {
    check(
        &["make v1 A on G", "qc A"],
        expect![[r#"
        persist
        commit v1 A"#]],
    );
}

#[test]
fn rule_4_a_qc_below_an_own_timeout_gets_no_commit_vote_after_a_restart_either() {
    check(
        &["propose v1 A", "after 2500 view", "restart", "qc A"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        persist
        timeout v1 with ?
        vote v1 A
        timeout v1 with ?
        check A"#]],
    );
}

#[test]
fn rule_5_a_timeout_that_makes_us_join_first_brings_its_certificates() {
    check(
        &["propose v1 A", "timeout 1 v2 A", "timeout 2 v2 A", "timeout 3 v2 A"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        persist
        commit v1 A
        persist
        timeout v2 with A
        answer with A"#]],
    );
}

#[test]
fn rule_6_timeouts_of_later_views_do_not_make_us_join() {
    check(
        &["timeout 1 v2 G", "timeout 2 v2 G", "timeout 1 v1 G", "timeout 2 v1 G"],
        expect![[r#"
        persist
        timeout v1 with ?
        persist
        timeout v2 with ?"#]],
    );
}

#[test]
fn rule_7_a_missing_block_is_asked_for_from_one_peer_after_the_other() {
    check(
        &["make v1 A on G", "make v2 B on A", "qc B", "after 100 fetch", "after 500 fetch", "give B", "give A"],
        expect![[r#"
            persist
            commit v2 B
            fetch B
            fetch B
            fetch A
            check A
            check B"#]],
    );
}

#[test]
fn rule_7_only_wanted_blocks_are_taken() {
    check(&["make v1 A on G", "give A", "asked A"], expect!["serve from disk"]);
}

#[test]
fn rule_9_blocks_voted_for_are_served_after_a_restart() {
    check(
        &["propose v1 A", "restart", "asked A"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        vote v1 A
        give A"#]],
    );
}

#[test]
fn rule_10_a_proposal_is_durable_first_and_sent_again_unchanged() {
    check(
        &["tc v3 G", "make v4 D on G", "built D", "restart", "make v4 E on G", "built E"],
        expect![[r#"
        build v4 on ? even empty
        persist D
        propose v4 D
        vote v4 D
        propose v4 D
        vote v4 D"#]],
    );
}

#[test]
fn rule_11_a_timeout_is_sent_again_after_a_restart() {
    check(
        &["after 2500 view", "restart", "after 500 repeat"],
        expect![[r#"
        persist
        timeout v1 with ?
        timeout v1 with ?
        timeout v1 with ?"#]],
    );
}

#[test]
fn rule_13_who_speaks_of_a_past_view_is_answered_once_in_a_while() {
    check(
        &["propose v1 A", "qc A", "timeout 1 v1 G", "timeout 1 v1 G", "timeout 2 v1 G"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        persist
        commit v1 A
        answer with A
        answer with A"#]],
    );
}

#[test]
fn rule_14_a_commit_certificate_waits_for_its_blocks() {
    check(
        &["make v1 A on G", "make v2 B on A", "final v2 B", "after 100 fetch", "give B", "give A"],
        expect![[r#"
        persist
        commit v2 B
        fetch B
        fetch A
        check A
        check B
        final A B"#]],
    );
}

#[test]
fn rule_15_a_certificate_of_any_later_view_is_taken() {
    check(
        &["make v90 A on G", "qc A", "vote 1 v200 A", "after 100 fetch", "give A"],
        expect![[r#"
        persist
        commit v90 A
        fetch A
        check A"#]],
    );
}

#[test]
fn rule_16_leaders_propose_tails_and_a_commit_certificate_on_a_tail_ends_the_epoch() {
    check(
        &[
            "propose v1 A",
            "propose v2 B on A",
            "propose v3 C on B",
            "qc C",
            "after 2100 idle",
            "tc v4 C",
            "tail v5 C tc v4",
            "qc C@v5",
            "final v5 C",
        ],
        expect![[r#"
            check A
            persist A
            vote v1 A
            persist
            commit v1 A
            check B
            persist B
            vote v2 B
            persist
            commit v2 B
            check C
            persist C
            vote v3 C
            persist
            commit v3 C
            persist
            propose v4 tail of C
            vote v4 C
            persist
            vote v5 C
            persist
            commit v5 C
            final A B C"#]],
    );
}

#[test]
fn rule_16_no_block_follows_the_epochs_last_one() {
    check(
        &["propose v1 A", "propose v2 B on A", "propose v3 C on B", "propose v5 D on C tc v4 C"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        persist
        commit v1 A
        check B
        persist B
        vote v2 B
        persist
        commit v2 B
        check C
        persist C
        vote v3 C
        persist
        commit v3 C"#]],
    );
}

#[test]
fn rule_18_a_view_given_up_too_early_makes_the_next_ones_longer_until_a_block_is_final() {
    // The QC came at once, so a view has the floor of 100 ms after the idle interval, and 200 ms backed off.
    let first = ["after 2500 view", "propose v1 A", "qc A", "after 2150 view"];
    check(
        &first,
        expect![[r#"
            persist
            timeout v1 with ?
            check A
            persist A
            vote v1 A"#]],
    );
    check(
        &[first.as_slice(), &["after 50 view"]].concat(),
        expect![[r#"
            persist
            timeout v1 with ?
            check A
            persist A
            vote v1 A
            persist
            timeout v2 with A"#]],
    );
}

#[test]
fn rule_19_two_votes_of_one_view_are_evidence_and_a_repeated_one_is_none() {
    check(
        &["make v1 A on G", "make v1 B on G", "vote 1 v1 A", "vote 1 v1 A", "vote 1 v1 B", "vote 1 v1 B"],
        expect!["evidence against 1"],
    );
}

#[test]
fn a_vote_with_a_false_height_does_not_count_for_the_block() {
    check(&["make v1 A on G", "vote 1 v1 A", "vote 2 v1 A height 7", "vote 3 v1 A"], expect![]);
}

#[test]
fn an_invalid_block_gets_no_vote() {
    check(&["propose v1 badA"], expect!["check badA"]);
}

#[test]
fn a_leader_asks_for_a_block_at_once_and_for_an_empty_one_after_the_idle_interval() {
    check(
        &["propose v1 A", "propose v3 C on A tc v2 A", "qc C", "after 2000 idle"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        persist
        commit v1 A
        check C
        persist C
        vote v3 C
        persist
        commit v3 C
        build v4 on C
        build v4 on C even empty"#]],
    );
}

#[test]
fn three_commit_votes_make_a_block_and_its_ancestors_final() {
    check(
        &["propose v1 A", "propose v2 B on A", "qc B", "commit 1 v2 B", "commit 2 v2 B", "commit 3 v2 B"],
        expect![[r#"
        check A
        persist A
        vote v1 A
        persist
        commit v1 A
        check B
        persist B
        vote v2 B
        persist
        commit v2 B
        final A B"#]],
    );
}
