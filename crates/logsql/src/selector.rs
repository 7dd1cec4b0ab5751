//! Stream selectors: `{name="value", other=~"expression" or third in ("a", "b")}`.

use lodge_segment::predicate::{LabelMatcher, LabelTest, Pattern, StreamSelector};

use super::cursor::{Cursor, shorten};
use super::filter::Parsed;
use super::functions::{arguments, compiled};

/// A selector, the cursor at its brace.
pub(super) fn selector(cursor: &mut Cursor<'_>) -> Parsed<StreamSelector> {
    cursor.advance(1);
    // Of each group whether anything was said, and what.
    let mut groups: Vec<(bool, Vec<LabelMatcher>)> = vec![(false, Vec::new())];
    loop {
        cursor.skip_space();
        if cursor.eat("}") {
            break;
        }
        if cursor.eat_keyword("or") {
            groups.push((false, Vec::new()));
            continue;
        }
        let matcher = label_matcher(cursor)?;
        if let Some((said, group)) = groups.last_mut() {
            *said = true;
            group.extend(matcher);
        }
        cursor.skip_space();
        let ends = cursor.rest().starts_with('}') || cursor.peek_bare() == "or";
        if !ends {
            cursor.expect(",", "a label's value")?;
        }
    }
    // `{a in (*) or …}`: any stream is in the first group.
    if groups.iter().any(|(said, group)| *said && group.is_empty()) {
        return Ok(StreamSelector::default());
    }
    let groups = groups.into_iter().map(|(_, group)| group).filter(|group| !group.is_empty());
    Ok(StreamSelector { groups: groups.collect() })
}

/// One condition; `None` if it is true of every stream.
fn label_matcher(cursor: &mut Cursor<'_>) -> Parsed<Option<LabelMatcher>> {
    let name = cursor.expect_word("a label's name or `}`")?.text;
    cursor.skip_space();
    if cursor.eat_keyword("in") {
        let values = label_list(cursor, "in")?;
        return Ok(values.map(|values| LabelMatcher { name, test: LabelTest::In(values) }));
    }
    if cursor.eat_keyword("not_in") {
        let test = match label_list(cursor, "not_in")? {
            Some(values) => LabelTest::NotIn(values),
            None => LabelTest::In(Vec::new()),
        };
        return Ok(Some(LabelMatcher { name, test }));
    }
    let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| cursor.eat(operator));
    let Some(operator) = operator else {
        let found = cursor.describe();
        return Err(cursor.error(format!(
            "expected =, !=, =~, !~ or in (…) after the label `{}`, not {found}",
            shorten(&name)
        )));
    };
    cursor.skip_space();
    let start = cursor.at();
    let value = cursor.expect_word("the label's value in quotes")?.text;
    let test = match operator {
        "=" => LabelTest::In(vec![value]),
        "!=" => LabelTest::NotIn(vec![value]),
        "=~" => LabelTest::Regex(compiled(cursor, start, Pattern::anchored(&value))?),
        _ => LabelTest::NotRegex(compiled(cursor, start, Pattern::anchored(&value))?),
    };
    Ok(Some(LabelMatcher { name, test }))
}

/// The values of `in (…)`; `None` for `(*)`, all values.
fn label_list(cursor: &mut Cursor<'_>, name: &str) -> Parsed<Option<Vec<String>>> {
    cursor.skip_space();
    let start = cursor.at();
    if !cursor.eat("(") {
        let found = cursor.describe();
        return Err(cursor.error(format!("expected `(` and a list of values, not {found}")));
    }
    cursor.skip_space();
    if cursor.eat("*") {
        cursor.expect(")", "the star")?;
        return Ok(None);
    }
    cursor.go_to(start);
    arguments(cursor, name).map(Some)
}
