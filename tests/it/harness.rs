//! The test harness. A story is registered by its name, with its needs. The harness ignores a story whose needs this
//! machine does not meet, and prints the reason.

use std::process::ExitCode;
use std::sync::LazyLock;

use libtest_mimic::{Arguments, Completion, Trial};

/// Something that a machine may lack. It is probed once, when the first story needs it. The error is the reason why the
/// story is ignored.
pub(crate) type Need = LazyLock<Result<(), String>>;

/// Registers the stories of a file as `stories()`. The compiler refuses a story that is not registered, as dead code.
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

/// Makes a story of a function and its path. Only `stories!` calls this.
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

/// Runs the stories that the command line selects. It takes the arguments of Rust's own test harness, but one filter at
/// most.
pub(crate) fn run(stories: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), stories).exit_code()
}
