//! The test harness: a story is registered by its name, with what it needs of the machine. A story that cannot run here
//! is ignored, with the reason, and counted as such.

use std::process::ExitCode;
use std::sync::LazyLock;

use libtest_mimic::{Arguments, Completion, Trial};

/// Something that a machine may lack. It is probed once, when the first story asks for it; the error is the reason why
/// that story is ignored.
pub(crate) type Need = LazyLock<Result<(), String>>;

/// Registers the stories of a file as `stories()`. The compiler refuses a story that is not registered: it is dead code.
///
/// ```ignore
/// stories! {
///     a_story,
///     a_story_about_another_user needs ROOT STRACE,
/// }
/// ```
macro_rules! stories {
    ($($name:ident $(needs $($need:ident)+)?),+ $(,)?) => {
        pub(crate) fn stories() -> Vec<libtest_mimic::Trial> {
            vec![$(crate::harness::story(
                concat!(module_path!(), "::", stringify!($name)),
                $name,
                vec![$($(&$need),+)?],
            )),+]
        }
    };
}
pub(crate) use stories;

/// A story by its path; `stories!` calls this.
pub(crate) fn story(path: &str, run: fn(), needs: Vec<&'static Need>) -> Trial {
    let (_crate, name) = path.split_once("::").unwrap();
    Trial::ignorable_test(name, move || {
        if let Some(reason) = needs.iter().find_map(|need| need.as_ref().err()) {
            return Ok(Completion::ignored_with(reason));
        }
        run();
        Ok(Completion::Completed)
    })
}

/// Runs stories as the command line says: it is that of Rust's own test harness, with one filter at most.
pub(crate) fn run(stories: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), stories).exit_code()
}
