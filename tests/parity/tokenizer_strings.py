"""Strings that a tokenizer gets wrong, of all scripts, each list the same for the same seed."""

import random
import unicodedata

SENTENCES = [
    "The crab walks sideways over the wet sand, and the whole cast sings along; it's the third act.",
    "Where does the drum begin? They'll say it's at 12.5 seconds, we'd say at 13, I'm not sure.",
    "Der Krebs läuft seitwärts über den nassen Sand, und am Ende grüßt er fröhlich das Publikum.",
    "Le crabe avance de côté sur le sable mouillé ; l'œil ouvert, il écoute jusqu'à l'aube.",
    "El cangrejo camina de lado por la arena, ¿y quién canta? ¡Mañana volverá con más años!",
    "O caranguejo anda de lado pela areia molhada; à noite não há mais ninguém na praia.",
    "Il granchio cammina di lato sulla sabbia bagnata: perché così, città dopo città, si va lontano.",
    "Rak chodí bokom po mokrom piesku, žltý kôň beží za ním; příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Krab chodzi bokiem po mokrym piasku, a źdźbło trawy gęś zjadła; żółw śpi na łące.",
    "Yengeç ıslak kumda yan yan yürür; İstanbul'da ışıklar söner, çığlık duyulmaz, şarkı başlar.",
    "Con cua đi ngang trên bãi cát ướt, và cả đoàn kịch cùng hát; trời đã tối, sóng vỗ rì rào.",
    "Rapu kävelee sivuttain märällä hiekalla, ja koko näyttelijäjoukko laulaa yöhön asti.",
    "Краб идёт боком по мокрому песку, и вся труппа поёт; ёлка стоит у края сцены, съезд в 18:30.",
    "Краб іде боком по мокрому піску, а їжак під'їжджає на ґанок і слухає пісню.",
    "Ο κάβουρας περπατά λοξά στην υγρή άμμο και όλος ο θίασος τραγουδά· ποιος ακούει τον ΐαμβο;",
    "Կրաբը քայլում է կողքով թաց ավազի վրայով, և ամբողջ խումբը երգում է։",
    "კიბორჩხალა სველ ქვიშაზე გვერდულად დადის და მთელი დასი მღერის.",
    "السرطان يمشي جانبياً على الرمل الرطب، والفرقة كلها تغني؛ كم الساعة الآن؟ ١٢:٣٠ مساءً.",
    "خرچنگ روی شن خیس کج راه می‌رود و همهٔ گروه آواز می‌خواند؛ ساعت ۱۸:۴۵ است.",
    "کیکڑا گیلی ریت پر ترچھا چلتا ہے اور پورا طائفہ گاتا ہے۔",
    "הסרטן הולך הצידה על החול הרטוב, וכל הלהקה שרה; שָׁלוֹם לַכֹּל, מה השעה?",
    "केकड़ा गीली रेत पर तिरछा चलता है और पूरी मंडली गाती है; समय १२:३० बजे है, क़िला और ज़मीन।",
    "কাঁকড়া ভেজা বালিতে আড়াআড়ি হাঁটে, আর পুরো দল গান গায়; সময় ১২টা ৩০।",
    "நண்டு ஈரமான மணலில் பக்கவாட்டில் நடக்கிறது, குழு முழுவதும் பாடுகிறது.",
    "పీత తడి ఇసుకపై పక్కకు నడుస్తుంది, బృందం అంతా పాడుతుంది.",
    "ഞണ്ട് നനഞ്ഞ മണലിൽ വശത്തേക്ക് നടക്കുന്നു, സംഘം മുഴുവൻ പാടുന്നു.",
    "ปูเดินเฉียงบนทรายเปียก แล้วทั้งคณะก็ร้องเพลง เวลา ๑๒.๓๐ น. น้ำขึ้นแล้ว",
    "ກະປູຍ່າງຂ້າງໆ ເທິງດິນຊາຍປຽກ ແລະ ທຸກຄົນຮ້ອງເພງ",
    "ក្តាមដើរចំហៀងលើខ្សាច់សើម ហើយក្រុមទាំងមូលច្រៀង។",
    "ဂဏန်းသည် စိုစွတ်သောသဲပေါ်တွင် ဘေးတိုက်လျှောက်သည်။",
    "སྡིག་སྲིན་གྱིས་བྱེ་མའི་སྟེང་དུ་འགྲོ་བཞིན་འདུག",
    "ሸርጣን በእርጥብ አሸዋ ላይ ወደ ጎን ይራመዳል፤ ቡድኑም ይዘምራል።",
    "螃蟹在潮湿的沙滩上横着走，整个剧团都在唱歌。现在是下午三点，请问声音从哪里来？",
    "螃蟹在潮濕的沙灘上橫著走，整個劇團都在唱歌；舞臺的燈光慢慢暗了下來。",
    "請看視頻：一隻貓在彈鋼琴，背景有雨聲。答案：（二）貓，【十二】秒。",
    "カニは濡れた砂の上を横に歩き、劇団全員が歌います。「ピアノの音はどこから？」と聞いた。ﾊﾝｶｸもある。",
    "게는 젖은 모래 위를 옆으로 걷고, 극단 전체가 노래합니다. 지금 몇 시입니까? 열두 시 반!",
    "🦀 walks, 👩‍🎤 sings, 👨‍👩‍👧‍👦 claps 👏🏽, 🏳️‍🌈 waves, 🇩🇪🇯🇵 watch; ❤️ and ☎︎, 1️⃣2️⃣.",
    "if (step % every == 0 && !saver->busy()) { save(state, \"adapter/\" + std::to_string(step)); }\n",
    "def forward(self, x):\n    return self.base(x) + self.scale * (p @ (self.B @ (self.A @ x)))\n\n\n",
    "SELECT name, COUNT(*) FROM events WHERE at >= '2024-02-29T23:59:59Z' GROUP BY 1;\r\n",
    "{\"video_path\": \"ks/video/abc_1.mp4\", \"label\": \"[12,40,199,223]\", \"score\": 1e-05}\n",
    "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, √2 ≈ 1.41421, ½ + ⅓ = ⅚, E = mc², H₂O, Ⅻ ⅷ ①②③, ∑ᵢ wᵢ·xᵢ → ∞",
]

EDGES = [
    "", " ", "  ", "   ", "\n", "\r\n", "\r", "\t", "\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u3000",
    "\u2028", "\u2029", "\u200b", "\u180e", "\ufeff", "\x00", "\x00\x01\x7f", "a\x00b", "\ufffd", "\U0010ffff",
    "don't", "DON'T", "we'Re", "I'M", "it'S", "they'LL", "he'lL", "you'Ve", "she'd", "'tis", "''s", "'s's",
    "'\u017f", "it'\u017f", "'\u017ft", "\u2019s", "'se", "'l", "'r", "'v", "'", " 's", "x 'll y", "'\u212a",
    "a  b", "a   b", "a \n b", "a\n\nb", "a \r\n \r\n b", "a\t\tb", "  a", "a  ", "a \n", "\n a", "\n\n  \n x",
    "a\xa0b", "a\xa0\xa0b", "a \xa0b", "\u3000\u3000b", "a\u2028b", "x\u2028\u2028 y", " \u2003x", "\u2003 x",
    "!\n", "!\r\n\r\n", " !\n\nx", "...\n...", "a!b", "a !b", "a! b", " \n!", "\t!", "\xa0!", "a.\n\n b",
    "123", "1 2 3", " 1", "  1", "1,234.56", "\u0661\u0662\u0663", "\u096a\u096b", "\u4e00\u4e8c\u4e09", "\u2167", "\xb2\xb3",
    "a1b2", "a\u0301", "\xe1", "e\u0301\u0327", "e\u0327\u0301", "\u0301", " \u0301", "a\u0334\u0301\u0315", "\u1e9b\u0323",
    "\u212b", "\u2126", "\u1100\u1161\u11a8", "\u1100\u1161", "\uac00\u11a8", "\uac01\u11a8", "\u1100\u11a8", "\uac00\u11a7",
    "\u0344", "\u0958", "\u0915\u093c", "\u2adc", "\ufb1d", "\ufb2a", "\U0001d15e", "\u0f73", "\u0f71\u0f72\u0f74",
    "\ufb01", "\uff21\uff11", "\u0600\u0661", "\u1ac1\u0301", "a\u0898\u0334", "\u1df6a\u0334", "\U0001e4ec\u0334",
    "\U0002ebf0", "\U0001e5d0\U0001e5f1", "\u1c89\u1c8a", "\U00010d40", "\U0002ffff", "\ue000",
    "_", "__init__", "snake_case", "camelCase", "$x", "#!", "->", "=>", "===", "//", "/*", "*/", "\\n", "<>", "</s>",
    "http://example.org/a?b=c&d=%20#e", "a@b.cd", "C:\\x\\y", "1e-05", "0x1F", "3.14", "-1", "+1", "100%",
]

ADDED = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|IMAGE|>",
    "<|VIDEO|>", "<|vision_bos|>", "<|vision_eos|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>",
]

# One or more of each class that the pattern tells apart, and of each kind of normalization.
CLASSES = [
    "a", "S", "\xe9", "\u0436", "\u4e2d", "\ud55c", "\u0e01", "\u1e9e", "7", "\u0663", "\xbd", " ", "\t", "\n", "\r",
    "\xa0", "\u3000", "'", "!", "_", "\u3002", "\U0001f980", "\u200d", "\u0301", "\u0323", "\u093f", "\u1161", "\u11a8",
    "\x01", "\u017f",
]

BLOCKS = [
    (0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x5FF),
    (0x600, 0x6FF), (0x8A0, 0x8FF), (0x900, 0x97F), (0x980, 0xDFF), (0xE00, 0xEFF), (0xF00, 0xFFF),
    (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x1780, 0x17FF), (0x1AB0, 0x1AFF),
    (0x1D00, 0x1DFF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x2BFF), (0x3000, 0x30FF), (0x3130, 0x318F),
    (0x4E00, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFFFD),
    (0x10000, 0x10FFF), (0x11000, 0x11FFF), (0x1D000, 0x1D7FF), (0x1E000, 0x1EFFF), (0x1F000, 0x1FAFF),
    (0x20000, 0x2FFFF), (0x30000, 0x3FFFF), (0xE0000, 0xE01EF), (0xF0000, 0x10FFFF),
]


def piece(rng):
    """A few characters of one kind."""
    kind = rng.randrange(9)
    if kind == 0:
        return "".join(rng.choices(CLASSES, k=rng.randint(1, 6)))
    if kind == 1:
        low, high = rng.choice(BLOCKS)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8)))
    if kind == 2:
        words = rng.choice(SENTENCES).split(" ")
        return " ".join(words[rng.randrange(len(words)):][: rng.randint(1, 6)])
    if kind == 3:
        sentence = rng.choice(SENTENCES)
        at = rng.randrange(len(sentence))
        return sentence[at : at + rng.randint(1, 12)]
    if kind == 4:
        return rng.choice(EDGES)
    if kind == 5:
        return rng.choice([" ", "\n", "\r\n", "\t", "\xa0", "\u3000"]) * rng.randint(1, 5)
    if kind == 6:
        return rng.choice(["'s", "'T", "'re", "'VE", "'m", "'Ll", "'D", "'\u017f", "'"])
    if kind == 7:
        jamo = [(0x1100, 0x1112), (0x1161, 0x1175), (0x11A7, 0x11C2), (0xAC00, 0xAC1C)]
        return "".join(chr(rng.randint(*rng.choice(jamo))) for _ in range(rng.randint(1, 6)))
    marks = [chr(rng.randint(0x300, 0x36F)) for _ in range(rng.randint(1, 4))]
    return rng.choice("aeouAEO\u03b1\u0438\u3046\u0928") + "".join(marks)


def fuzz(rng):
    text = "".join(piece(rng) for _ in range(rng.randint(1, 6)))
    form = rng.randrange(4)
    return unicodedata.normalize("NFD" if form == 0 else "NFKD", text) if form < 2 else text


def with_added_tokens(rng):
    parts = []
    for _ in range(rng.randint(1, 4)):
        token = rng.choice(ADDED)
        cut = rng.randint(1, len(token)) if rng.random() < 0.2 else len(token)
        parts += [piece(rng) if rng.random() < 0.7 else "", token[:cut]]
    # NFC would join the last ">" with U+0338.
    return "".join(parts) + rng.choice(["", "\n", " x", "\u0301", "\u0338"])


def long_runs(longest):
    units = ["a", " ", "\n", "\r\n", "!", "1", "\u4e2d", "\U0001f980", "\u0301", "ab", " a", "\u1100\u1161", "'s", "\xe9", "=", "\t"]
    return [unit * n + tail for unit in units for n in (17, longest) for tail in ("", "x", " ")]


def every_code_point(together=128):
    """Each code point of the planes in use: before a sign, behind an apostrophe, before a letter."""
    code_points = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE1000)]
    for start in range(0, len(code_points), together):
        yield "".join(f"{chr(c)}.as'{chr(c)}e\n" for c in code_points[start : start + together])


def make(seed, count, longest):
    """The fixed strings and `count` random ones."""
    rng = random.Random(seed)
    strings = list(EDGES)
    for sentence in SENTENCES:
        strings += [sentence, unicodedata.normalize("NFD", sentence)]
    strings += long_runs(longest)
    strings += ADDED
    strings += [fuzz(rng) for _ in range(count)]
    strings += [with_added_tokens(rng) for _ in range(count // 10)]
    return strings
