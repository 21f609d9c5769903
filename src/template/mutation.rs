//! Functions that change a map in place in Go, such as `sprig_set`. Values of the engine do not change, so the changed map is
//! assigned to the variable that the map came from.

use gotmpl::parse::{ActionNode, CommandNode, Expr, Node, PipeNode, SmolStr};

/// Function that puts a value at a path of keys into a map. A name that no template can contain.
pub(super) const PUT: &str = "put value";

/// Variable for the changed map.
const CHANGED: &str = "$changed map";

/// The functions whose first argument changes.
const FUNCTIONS: [&str; 8] = [
    "mergeMap",
    "mergeMapWithOverride",
    "sprig_merge",
    "sprig_mergeOverwrite",
    "sprig_mustMerge",
    "sprig_mustMergeOverwrite",
    "sprig_set",
    "sprig_unset",
];

/// The actions for the changes that a pipeline makes, and the rest of the pipeline. A map that is not in a variable, and a call in
/// parentheses, change nothing but the result.
pub(super) fn extract(pipe: &PipeNode) -> (Vec<Node>, PipeNode) {
    let mut actions = Vec::new();
    let mut rest = pipe.clone();
    while let Some((end, (root, fields))) =
        rest.commands.iter().enumerate().find_map(|(at, of)| Some((at + 1, target(of)?)))
    {
        let after = rest.commands.split_off(end);
        let commands = std::mem::take(&mut rest.commands);
        let changed = || Expr::Variable(pipe.pos, SmolStr::new(CHANGED), Vec::new());
        actions.push(action(pipe, CHANGED, false, commands));
        let assigned = if fields.is_empty() {
            vec![changed()]
        } else {
            let keys = fields.iter().map(|field| Expr::String(pipe.pos, field.as_str().into()));
            let put = Expr::Identifier(pipe.pos, SmolStr::new(PUT));
            let map = Expr::Variable(pipe.pos, root.clone(), Vec::new());
            [put, map, changed()].into_iter().chain(keys).collect()
        };
        actions.push(action(pipe, &root, true, vec![CommandNode { pos: pipe.pos, args: assigned }]));
        rest.commands.push(CommandNode { pos: pipe.pos, args: vec![changed()] });
        rest.commands.extend(after);
    }
    (actions, rest)
}

/// The variable in the first argument of a call that changes it.
fn target(command: &CommandNode) -> Option<(SmolStr, Vec<SmolStr>)> {
    match &command.args[..] {
        [Expr::Identifier(_, name), Expr::Variable(_, root, fields), ..] if FUNCTIONS.contains(&name.as_str()) => {
            // `$` is the data itself, which is not assigned.
            (root != "$").then(|| (root.clone(), fields.clone()))
        }
        _ => None,
    }
}

fn action(pipe: &PipeNode, variable: &str, is_assign: bool, commands: Vec<CommandNode>) -> Node {
    let pos = pipe.pos;
    let pipe = PipeNode { pos, decl: vec![SmolStr::new(variable)], commands, is_assign };
    Node::Action(ActionNode { pos, pipe })
}
