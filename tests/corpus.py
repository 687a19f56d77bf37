"""Texts that tokenizers trip over: many scripts, emoji, code, runs of blanks, and random splices of all of
them."""

from __future__ import annotations

import random

SCRIPTS = (
    "The quick brown fox jumps over the lazy dog, doesn't it? I'll say; they've SAID it'S so.",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy. Größe, Straße, ÄÖÜ.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ἐν ἀρχῇ ἦν ὁ λόγος.",
    "敏捷的棕色狐狸跳过了懒狗。我们在二〇二六年十一月二十二日开会。",
    "いろはにほへと ちりぬるを。カタカナもｶﾀｶﾅも、漢字も。",
    "다람쥐 헌 쳇바퀴에 타고파. 한글은 아름답다!",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر. ١٢٣٤٥",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם",
    "ऋषियों को सताने वाले दुष्ट राक्षसों का सर्वनाश। १२३४५",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "আমি বাংলায় গান গাই। தமிழ் மொழி அழகானது. తెలుగు భాష.",
    "Խնդրում եմ։ მადლობა დიდი. አማርኛ ጥሩ ነው። ខ្ញុំស្រឡាញ់ភាសាខ្មែរ",
    "Tiếng Việt có dấu: nguyễn, đường, ươn ướt, rượu. Türkçe: ığİ şöç.",
    "e\u0301 combined, a\u030a too, \ufb01 ligature, \u212b angstrom, \u1e9b\u0323 long s, ſ",
    "᚛ᚉᚑᚅᚔᚉᚉᚔᚋ᚜ 𐌰𐌱𐌲 𒀀𒀁 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 Ⅷ ½ ² ₃ ① ㊿ 𝟜",
)
EMOJI = ("🙂🙃", "👨‍👩‍👧‍👦 family", "🏳️‍🌈🇩🇪🇯🇵", "👍🏽👍🏿", "❤️‍🔥 ok ☕️", "🫠🪿🧬🦄", "\U0001f9d1\u200d\U0001f4bb")
CODE = (
    "def f(x: int) -> int:\n    return x**2  # square\n\n\nclass A:\n\tpass\n",
    "for (int i=0;i<n;++i){ a[i]+=b[i]<<2; } // done\r\n#include <vector>\r\n",
    '{"a": [1, 2.5e-3, null], "b": {"c": "d\\"e"}}',
    "<div class='x'>&nbsp;&#160;</div><!-- c --><br/>",
    "SELECT * FROM t WHERE a='b''c' AND d>=10;--",
    "$ ls -la | grep '^d' && echo \"$HOME\" > /dev/null 2>&1",
    "\\frac{1}{2}\\sum_{i=0}^{n} x_i^2 \\\\ % comment",
    "https://example.org/a?b=c&d=%20e#f  user@example.org  192.168.0.1:8080",
    "0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 0xFF 1e10 v2.0.1",
    "camelCase snake_case SCREAMING_CASE kebab-case dot.case Title Case ALLCAPS",
)
BLANKS = (
    " ", "  ", "   a", "a   ", "\n", "\n\n", "\n \n", " \n", "\t\t x", "a\n\n\nb", "a \n b",
    "\r\n\r\n", "x\xa0y", "\u3000\u5b57", "\u2028a\u2029", "a\u200bb", "a\u200d b", "\u180e x",
    "end \t \n ", "   \n   \n", "\x0b\f", "\x1c\x1f", "\x00a\x07", "\ufeffb", "\x85x",
)  # fmt: skip
PUNCTUATION = (
    "!!!???...", "«quote» „so“ ‚und‘ “thus”", "—–-‐‑", "(((a)))[[b]]{{c}}", "a'b'c 'll 're 'S 'LL",
    "@#$%^&*", "…", "~`|",
)  # fmt: skip
PIECES = (*SCRIPTS, *EMOJI, *CODE, *BLANKS, *PUNCTUATION)


def mixed(count: int, seed: int = 20261122) -> list[str]:
    """All of the above, then random splices of them, `count` in all."""
    chance = random.Random(seed)
    texts = list(PIECES)
    while len(texts) < count:
        parts = []
        for _ in range(chance.randint(2, 8)):
            piece = chance.choice(PIECES)
            start = chance.randrange(len(piece))
            parts.append(piece[start : start + chance.randint(1, 25)])
        texts.append(chance.choice(("", " ", "\n", "")).join(parts))
    return texts
