//! Changes to the parse tree before an execution. The engine reports no positions, has no limit of steps, and has no methods.

use gotmpl::parse::{ActionNode, BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos, SmolStr};

use super::mutation;

/// Function that records the position of the next action. A name that no template can contain.
pub(super) const BEGIN: &str = "begin action";
/// Function that converts the value of an action to text.
pub(super) const PRINT: &str = "print action";

/// Inserts [`BEGIN`] before each action, appends [`PRINT`] to each action with a value, and replaces the methods of `scratch`
/// by functions.
pub(super) fn instrument(list: &ListNode) -> ListNode {
    let nodes = list.nodes.iter().flat_map(|node| {
        let offset = match node {
            Node::Action(action) => Some(action.pos.offset),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => Some(branch.pos.offset),
            Node::Template(template) => Some(template.pos.offset),
            _ => None,
        };
        let (changes, node) = extracted(node);
        offset.map(begin).into_iter().chain(changes).chain([changed(&node)])
    });
    ListNode { pos: list.pos, nodes: nodes.collect() }
}

/// The actions for the changes of maps in the pipeline of `node`, and `node` without them.
fn extracted(node: &Node) -> (Vec<Node>, Node) {
    let mut node = node.clone();
    let pipe = match &mut node {
        Node::Action(action) => &mut action.pipe,
        Node::If(branch) | Node::Range(branch) | Node::With(branch) => &mut branch.pipe,
        _ => return (Vec::new(), node),
    };
    let (changes, rest) = mutation::extract(pipe);
    *pipe = rest;
    (changes.iter().map(changed).collect(), node)
}

fn changed(node: &Node) -> Node {
    match node {
        Node::List(list) => Node::List(instrument(list)),
        Node::Action(action) => {
            let mut pipe = pipeline(&action.pipe);
            if pipe.decl.is_empty() {
                pipe.commands.push(command(action.pos, vec![identifier(action.pos, PRINT)]));
            }
            Node::Action(ActionNode { pos: action.pos, pipe })
        }
        Node::If(branch) => Node::If(self::branch(branch)),
        Node::Range(branch) => Node::Range(self::branch(branch)),
        Node::With(branch) => Node::With(self::branch(branch)),
        Node::Template(template) => {
            let mut template = template.clone();
            template.pipe = template.pipe.as_ref().map(pipeline);
            Node::Template(template)
        }
        Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => node.clone(),
    }
}

fn branch(branch: &BranchNode) -> BranchNode {
    BranchNode {
        pos: branch.pos,
        pipe: pipeline(&branch.pipe),
        body: instrument(&branch.body),
        else_body: branch.else_body.as_ref().map(instrument),
    }
}

pub(super) fn pipeline(pipe: &PipeNode) -> PipeNode {
    let commands = pipe.commands.iter().map(|of| command(of.pos, of.args.iter().map(expression).collect()));
    PipeNode { pos: pipe.pos, decl: pipe.decl.clone(), commands: commands.collect(), is_assign: pipe.is_assign }
}

fn expression(expression: &Expr) -> Expr {
    match expression {
        Expr::Pipe(pos, pipe) => Expr::Pipe(*pos, pipeline(pipe)),
        Expr::Chain(pos, inner, fields) => match (inner.as_ref(), fields.split_first()) {
            (Expr::Identifier(_, name), Some((method, rest))) if name == "scratch" => {
                let function = identifier(*pos, &format!("scratch.{method}"));
                if rest.is_empty() { function } else { Expr::Chain(*pos, Box::new(function), rest.to_vec()) }
            }
            (inner, _) => Expr::Chain(*pos, Box::new(self::expression(inner)), fields.clone()),
        },
        other => other.clone(),
    }
}

fn begin(offset: usize) -> Node {
    let pos = Pos::new(offset, 0);
    let offset = Number::Int(i64::try_from(offset).unwrap_or(i64::MAX));
    let call = command(pos, vec![identifier(pos, BEGIN), Expr::Number(pos, offset)]);
    Node::Action(ActionNode { pos, pipe: PipeNode { pos, decl: Vec::new(), commands: vec![call], is_assign: false } })
}

fn command(pos: Pos, args: Vec<Expr>) -> CommandNode {
    CommandNode { pos, args }
}

fn identifier(pos: Pos, name: &str) -> Expr {
    Expr::Identifier(pos, SmolStr::new(name))
}
