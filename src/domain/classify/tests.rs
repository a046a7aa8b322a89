use proptest::prelude::*;

use super::*;

const INICIS_PROVIDER: Option<&str> = Some("html5_inicis");

fn classify(provider: Option<&str>, text: &str) -> Class {
    Rules::default().classify(provider, text)
}

/// The table read anew, by nothing but commas: each row in each spelling and both shapes, through the classifier.
#[test]
fn every_row_of_the_table_is_read_in_every_spelling_and_shape() {
    let mut rows = 0;
    for line in include_str!("../inicis-codes.csv").lines().skip(1) {
        let fields: Vec<&str> = line.splitn(4, ',').collect();
        let [level, suffix, class, text] = fields[..] else { panic!("{line}") };
        let spellings = match level {
            "issuer" => vec![format!("12{suffix}"), format!("1200{suffix}")],
            "pg" => vec![format!("500{suffix}"), format!("550{suffix}")],
            "other" => vec![suffix.to_owned()],
            _ => panic!("{line}"),
        };
        for code in spellings {
            for said in [format!("[{code}][실시간빌링실패|{text}]"), format!("{code}|{text}"), format!("[{code}]")] {
                for provider in [INICIS_PROVIDER, Some("inicis"), None] {
                    let rules = Rules::default();
                    let reading = rules.read(provider, &said);
                    assert_eq!(reading.class.name(), class, "{said}");
                    assert_eq!(reading.code, Some(code.as_str()));
                    assert!(matches!(reading.by, By::Code(known) if known.suffix == suffix), "{said}");
                }
            }
        }
        rows += 1;
    }
    assert_eq!((rows, codes().len()), (318, 318));
}

#[test]
fn both_shapes_of_inicis_are_read() {
    assert_eq!(classify(INICIS_PROVIDER, "[1254][실시간빌링실패|잔액부족]"), Class::SoftFunds);
    assert_eq!(classify(INICIS_PROVIDER, "[120054][실시간빌링실패|무엇이든]"), Class::SoftFunds);
    assert_eq!(classify(INICIS_PROVIDER, "  [1204][실시간빌링실패|유효기간 만료]"), Class::HardCard);
    assert_eq!(classify(INICIS_PROVIDER, "[1236][실시간빌링실패|중복거래]"), Class::Ambiguous);
    assert_eq!(classify(INICIS_PROVIDER, "[1270][실시간빌링실패|전화요망]"), Class::SoftContact);
    assert_eq!(classify(INICIS_PROVIDER, "550644|1회 한도금액 초과"), Class::SoftFunds);
}

#[test]
fn a_failure_that_is_known_to_be_approved_later_is_no_outage() {
    for text in ["(PG사 결제 장애) Internal error", "internal error", "결제장애"] {
        assert_eq!(classify(None, text), Class::Ambiguous, "{text}");
    }
    assert_eq!(classify(None, "카드사 통신장애"), Class::Transient);
}

#[test]
fn no_rule_makes_an_outage_of_what_may_have_charged() {
    let rule = |class| Rules(vec![Rule { provider: None, code: None, contains: Some("timeout".to_owned()), class }]);
    for (class, read) in [(Class::Transient, Class::Ambiguous), (Class::SoftFunds, Class::SoftFunds)] {
        assert_eq!(rule(class).classify(None, "Timeout of the card company"), read);
    }
    let outage =
        Rules(vec![Rule { provider: None, code: None, contains: Some("점검중".to_owned()), class: Class::Transient }]);
    assert_eq!(outage.read(None, "은행 점검중").by, By::Operator { number: 1 });
}

#[test]
fn a_code_that_is_not_listed_leaves_it_to_the_text() {
    assert_eq!(classify(INICIS_PROVIDER, "[12ZZ][실시간빌링실패|한도초과]"), Class::SoftFunds);
    assert_eq!(classify(INICIS_PROVIDER, "500503|알 수 없는 오류"), Class::Unknown);
    assert_eq!(Rules::default().read(INICIS_PROVIDER, "500503|알 수 없는 오류").code, Some("500503"));
}

#[test]
fn without_a_code_the_text_decides() {
    for (provider, text, class) in [
        (Some("kcp_billing"), "[CC61][한도초과]", Class::SoftFunds),
        (Some("kcp"), "8128 신용카드 중복거래 요청 거절", Class::Ambiguous),
        (Some("nice_v2"), "카드사에 문의 바랍니다", Class::SoftContact),
        (Some("tosspayments"), "정지된 카드 입니다.", Class::HardCard),
        (Some("tosspayments"), "한도초과 혹은 잔액부족으로 결제에 실패했습니다.", Class::SoftFunds),
        (Some("kcp_billing"), "8128", Class::Ambiguous),
        (Some("nice"), "8128", Class::Unknown),
        (None, "분실된 카드입니다", Class::HardCard),
        (None, "도난카드", Class::HardCard),
        (None, "현재 시스템 점검중입니다", Class::Transient),
        (None, "은행 통신 TIMEOUT", Class::Ambiguous),
        (None, "신용카드 중복거래 요청 거절", Class::Ambiguous),
        (None, "빌링 미사용 계약입니다", Class::Merchant),
        (None, "등록되지 않은 MID 입니다", Class::Merchant),
        (None, "timid", Class::Unknown),
        (None, "something new", Class::Unknown),
        (None, "", Class::Unknown),
    ] {
        assert_eq!(classify(provider, text), class, "{text}");
    }
}

#[test]
fn a_code_of_inicis_means_nothing_in_the_mouth_of_another_provider() {
    assert_eq!(classify(Some("kcp"), "[1254][알 수 없음]"), Class::Unknown);
    assert_eq!(classify(Some("html5_inicis"), "[1254][알 수 없음]"), Class::SoftFunds);
}

#[test]
fn the_operators_first_rule_that_fits_wins_over_ours() {
    let rule = |provider: Option<&str>, code: Option<&str>, contains: Option<&str>, class| Rule {
        provider: provider.map(str::to_owned),
        code: code.map(str::to_owned),
        contains: contains.map(str::to_owned),
        class,
    };
    let rules = Rules(vec![
        rule(Some("kcp"), Some("1254"), None, Class::Merchant),
        rule(None, Some("1254"), Some("잔액"), Class::HardCard),
        rule(None, Some("1254"), None, Class::SoftContact),
        rule(None, None, Some("Do Not Honor"), Class::SoftContact),
        rule(Some("kcp"), None, None, Class::Request),
    ]);
    let read = |provider, text| {
        let reading = rules.read(Some(provider), text);
        (reading.class, matches!(reading.by, By::Operator { number } if rules.0[number - 1].class == reading.class))
    };
    assert_eq!(read("html5_inicis", "[1254][실시간빌링실패|잔액부족]"), (Class::HardCard, true));
    assert_eq!(read("html5_inicis", "1254|x"), (Class::SoftContact, true));
    assert_eq!(read("kcp", "1254|x"), (Class::Merchant, true));
    assert_eq!(read("stripe", "DO NOT HONOR (05)"), (Class::SoftContact, true));
    assert_eq!(read("html5_inicis", "[1204][x]"), (Class::HardCard, false));
    assert_eq!(read("kcp", "whatever"), (Class::Unknown, false), "a rule that names nothing of the text fits nothing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the bytes are: one of the classes (none of which says paid), by a rule that can be named, and the same again.
    #[test]
    fn any_bytes_have_a_class(bytes in prop::collection::vec(any::<u8>(), 0..80), provider in "[a-z0-9_]{0,12}") {
        let text = String::from_utf8_lossy(&bytes);
        for provider in [None, Some(provider.as_str()), INICIS_PROVIDER] {
            let rules = Rules::default();
            let reading = rules.read(provider, &text);
            prop_assert!(Class::ALL.contains(&reading.class));
            prop_assert!(!reading.by.to_string().is_empty());
            prop_assert_eq!(rules.classify(provider, &text), reading.class);
        }
    }

    /// Texts that look like refusals, cut and joined anywhere.
    #[test]
    fn any_text_has_a_class(text in "[\\[\\]|0-9A-Z가-힣 ]{0,8}\\PC{0,60}") {
        for provider in Provider::ALL {
            prop_assert!(Class::ALL.contains(&classify(Some(provider.name()), &text)));
        }
        let reading = Rules::default().read(None, &text).code.map(str::to_owned);
        prop_assert!(reading.is_none_or(|code| (4..=6).contains(&code.len())));
    }
}
