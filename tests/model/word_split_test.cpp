#include "model/word_split.h"

#include <gtest/gtest.h>

namespace crabcast::model {
namespace {

using Words = std::vector<std::string>;

Words split(std::string_view text) {
  const auto unicode = Unicode::load();
  EXPECT_TRUE(unicode.has_value()) << unicode.error().message;
  Words words;
  while (!text.empty()) {
    words.emplace_back(text.substr(0, first_word(**unicode, text)));
    text.remove_prefix(words.back().size());
  }
  return words;
}

TEST(WordSplit, AWordTakesTheSpaceOrSignBeforeIt) {
  EXPECT_EQ(split("Two crabs, (one) song"),
            (Words{"Two", " crabs", ",", " (", "one", ")", " song"}));
  EXPECT_EQ(split("a_b \u00FCber\u6F22\u5B57"), (Words{"a", "_b", " \u00FCber\u6F22\u5B57"}));
  EXPECT_EQ(split("\u3000x\ty"), (Words{"\u3000x", "\ty"}));
}

TEST(WordSplit, ContractionsInAnyCase) {
  EXPECT_EQ(split("don't I'LL he'Ve's"), (Words{"don", "'t", " I", "'LL", " he", "'Ve", "'s"}));
  EXPECT_EQ(split("'tis 'xyz it'\u017Fo"), (Words{"'t", "is", " '", "xyz", " it", "'\u017F", "o"}));
  EXPECT_EQ(split("'l 'r"), (Words{"'l", " '", "r"}));
}

TEST(WordSplit, EachDigitIsAWord) {
  EXPECT_EQ(split("at 12.5"), (Words{"at", " ", "1", "2", ".", "5"}));
  EXPECT_EQ(split("\u0661\u0662\u00BDx"), (Words{"\u0661", "\u0662", "\u00BD", "x"}));
}

TEST(WordSplit, WhiteSpaceGoesUpToItsLastLineBreakOrLeavesOneForTheNextWord) {
  EXPECT_EQ(split("a   b"), (Words{"a", "  ", " b"}));
  EXPECT_EQ(split("a \n \r\n  b"), (Words{"a", " \n \r\n", " ", " b"}));
  EXPECT_EQ(split("a \t"), (Words{"a", " \t"}));
  EXPECT_EQ(split("  1"), (Words{" ", " ", "1"}));
  EXPECT_EQ(split("x\u2028\u00A0y"), (Words{"x", "\u2028", "\u00A0y"}));
  EXPECT_EQ(split("x\u0085\u0085y"), (Words{"x", "\u0085", "\u0085y"}));
}

TEST(WordSplit, SignsTakeTheLineBreaksBehindThem) {
  EXPECT_EQ(split("end.\n\n  x"), (Words{"end", ".\n\n", " ", " x"}));
  EXPECT_EQ(split("a !?\r\nb"), (Words{"a", " !?\r\n", "b"}));
  EXPECT_EQ(split("\u00A0!"), (Words{"\u00A0", "!"}));
}

TEST(WordSplit, MarksAndPicturesAreSigns) {
  EXPECT_EQ(split("a\u0301b"), (Words{"a", "\u0301b"}));
  EXPECT_EQ(split("\U0001F980\u200D.x"), (Words{"\U0001F980\u200D.", "x"}));
}

}  // namespace
}  // namespace crabcast::model
