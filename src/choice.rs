//! Values that are one word of a few.

use crate::invalid::Invalid;

/// The value of the choice that the text names, in upper or lower case.
///
/// # Errors
///
/// Fails if there is no such choice. The remedy says which word was probably meant, and lists all of them.
pub(crate) fn choose<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Invalid> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
        return Ok(*value);
    }
    let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
    let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let remedy = format!("{}Write {}, or leave it out.", meant(text, &words), either(&quoted));
    Err(Invalid::new(format!("is not {}", either(&words)), remedy))
}

/// The question whether the nearest of the words was meant, as the beginning of a remedy. Empty if none is near.
pub(crate) fn meant(text: &str, words: &[&str]) -> String {
    nearest(text, words.iter().copied()).map(|word| format!("Did you mean `{word}`? ")).unwrap_or_default()
}

/// The word that the text is probably a misspelling of: a wrong, a missing, an additional letter or two that are swapped,
/// and one more mistake in long words.
pub(crate) fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_lowercase();
    let distance = |word: &str| strsim::osa_distance(&text, &word.to_ascii_lowercase());
    let is_near = |(distance, word): &(usize, &str)| match word.chars().count() {
        ..3 => false,
        3..8 => *distance <= 1,
        _ => *distance <= 2,
    };
    words.into_iter().map(|word| (distance(word), word)).filter(is_near).min().map(|(_, word)| word)
}

/// The words in a sentence: `a, b or c`.
pub(crate) fn either(words: &[impl AsRef<str>]) -> String {
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    match &*words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_has_any_case_and_a_misspelt_one_is_recognized() {
        const CHOICES: [(&str, u8); 3] = [("error", 1), ("warn", 2), ("off", 3)];
        assert_eq!(choose("Warn", &CHOICES).unwrap(), 2);
        let text = |wrong: &str| crate::error::render(&choose(wrong, &CHOICES).unwrap_err().named("LEAK_CHECK", wrong));
        assert!(text("errror").contains("is not error, warn or off\n"), "{}", text("errror"));
        assert!(
            text("errror")
                .contains("what to do: Did you mean `error`? Write 'error', 'warn' or 'off', or leave it out.\n")
        );
        assert!(text("of").contains("Did you mean `off`?") && !text("false").contains("Did you mean"));
    }

    #[test]
    fn the_nearest_word_is_found() {
        let words = ["join", "inspect", "doctor", "cleanup"];
        for (text, word) in [
            ("jion", Some("join")),
            ("joins", Some("join")),
            ("docter", Some("doctor")),
            ("Clenaup", Some("cleanup")),
            ("inspekt", Some("inspect")),
            ("run", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, words), word, "{text}");
        }
        assert_eq!(nearest("deploymnet", ["deployment", "branch"]), Some("deployment"));
        assert_eq!(nearest("branhc", ["branch", "repository"]), Some("branch"));
    }

    #[test]
    fn words_in_a_sentence() {
        assert_eq!(
            (either(&["a"]), either(&["a", "b"]), either(&["a", "b", "c"])),
            ("a".into(), "a or b".into(), "a, b or c".into())
        );
        assert_eq!(either(&[] as &[&str]), "");
    }
}
