//! The functions that generated expressions call with constant arguments.

/// Regular expressions, as they are between quotes in a template.
pub(crate) const PATTERNS: [&str; 12] =
    ["a", "[a-z]+", "^a", "b$", "(a)(b)?", "\\\\d+", "\\\\s", "\\\\w+", "[^a-z]", "(?i)H", "x*", "."];

/// Replacements of what they match.
pub(crate) const REPLACEMENTS: [&str; 7] = ["", "-", "$1", "${0}", "<$0>", "$x", "$$"];

/// Functions from a text to a text, with their other arguments.
pub(crate) const TEXT_TO_TEXT: [&str; 46] = [
    "toUpper",
    "toLower",
    "toTitle",
    "trimSpace",
    "trim \"a \"",
    "trimPrefix \"a\"",
    "trimSuffix \"b\"",
    "replaceAll \"a\" \"<>\"",
    "replaceAll \"\\n\" \" \"",
    "base64Encode",
    "base64URLEncode",
    "base64Encode | base64Decode",
    "base64URLEncode | base64URLDecode",
    "sha256Hex",
    "md5sum",
    "hmacSHA256Hex \"key\"",
    "indent 2",
    "indent 0",
    "split \",\" | join \"+\"",
    "parseJSON",
    "parseYAML",
    "sprig_upper",
    "sprig_trim",
    "sprig_trunc 3",
    "sprig_trunc -2",
    "sprig_repeat 2",
    "sprig_nindent 2",
    "sprig_indent 1",
    "sprig_b64enc",
    "sprig_sha256sum",
    "sprig_replace \" \" \"_\"",
    "sprig_nospace",
    "sprig_quote",
    "sprig_squote",
    "sprig_lower",
    "sprig_title",
    "sprig_untitle",
    "sprig_substr 0 2",
    "sprig_abbrev 6",
    "sprig_trimPrefix \"a\"",
    "sprig_b64enc | sprig_b64dec",
    "sprig_splitList \",\" | join \"|\"",
    "sprig_regexQuoteMeta",
    "sprig_trimAll \"a\"",
    "splitToMap \",\" \"=\" | toJSON",
    "printf \"%-8s|\"",
];

/// Functions from anything to a text.
pub(crate) const ANY_TO_TEXT: [&str; 18] = [
    "toJSON",
    "toJSON",
    "toUnescapedJSON",
    "toJSONPretty",
    "toUnescapedJSONPretty",
    "toYAML",
    "toYAML",
    "html",
    "js",
    "urlquery",
    "print",
    "printf \"%v\"",
    "printf \"%T\"",
    "sprig_quote",
    "sprig_toString",
    "sprig_toJson",
    "sprig_kindOf",
    "println",
];
