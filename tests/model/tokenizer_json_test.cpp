// Files that are no tokenizer.json of Qwen2's kind: each is refused, and the message says why.
#include "model/tokenizer_json.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/model/bpe_fixture.h"

namespace crabcast::model {
namespace {

using nlohmann::json;

json small_file() {
  static const json file = json::parse(small_tokenizer_json());
  return file;
}

void expect_refused(const std::string& text, Errc code, const std::string& reason) {
  const auto tokenizer = parse_bpe_tokenizer(text);
  ASSERT_FALSE(tokenizer.has_value()) << "accepted, but: " << reason;
  const Error& error = tokenizer.error();
  EXPECT_EQ(error.code, code) << error.message;
  EXPECT_NE(error.message.find(reason), std::string::npos) << error.message;
  EXPECT_LT(error.message.size(), 700U);
}

struct Change {
  const char* where;  // JSON pointer
  json value;
  const char* reason;
};

void expect_refused(const Change& change, Errc code) {
  SCOPED_TRACE(std::string(change.where) + " = " + change.value.dump());
  json file = small_file();
  file[json::json_pointer(change.where)] = change.value;
  expect_refused(file.dump(), code, change.reason);
}

TEST(TokenizerJson, IsAccepted) {
  const auto vocabulary = parse_tokenizer_json(small_tokenizer_json());
  ASSERT_TRUE(vocabulary.has_value()) << vocabulary.error().message;
  EXPECT_EQ(vocabulary->added.size(), 22U);
  EXPECT_EQ(vocabulary->tokens.size(), 256 + vocabulary->merges.size() + 22);
  const Merge& merge = vocabulary->merges.back();
  EXPECT_EQ(vocabulary->tokens[merge.left] + vocabulary->tokens[merge.right],
            vocabulary->tokens[merge.joined]);
}

// Until 2024 a merge was written as one text.
TEST(TokenizerJson, OlderMergesAreReadToo) {
  json file = small_file();
  for (json& merge : file["/model/merges"_json_pointer])
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  const auto tokenizer = parse_bpe_tokenizer(file.dump());
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const std::string text = "The crab sings at 12.5 seconds";
  EXPECT_EQ((*tokenizer)->encode(text), small_tokenizer()->encode(text));
}

TEST(TokenizerJson, AddedTokensMayStandInTheVocabularyToo) {
  json file = small_file();
  for (const json& token : file["added_tokens"])
    file["model"]["vocab"][token["content"].get<std::string>()] = token["id"];
  const auto tokenizer = parse_bpe_tokenizer(file.dump());
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const std::string text = "<|im_end|>, <tool_call>";
  EXPECT_EQ((*tokenizer)->encode(text), small_tokenizer()->encode(text));
}

TEST(TokenizerJson, BrokenJsonIsRefused) {
  const std::string& good = small_tokenizer_json();
  for (const std::size_t length : {0UL, 1UL, 100UL, good.size() / 2, good.size() - 1})
    expect_refused(good.substr(0, length), Errc::corrupt, "broken JSON");
  expect_refused("crab", Errc::corrupt, "broken JSON");
  expect_refused(good + "}", Errc::corrupt, "broken JSON");
  expect_refused(good.substr(0, 60) + "\xFF" + good.substr(61), Errc::corrupt, "broken JSON");
  expect_refused("{\"a\": \"\xE7\x8C\"}", Errc::corrupt, "UTF-8");
  expect_refused("{\"a\": 1e999}", Errc::corrupt, "1e999");
  expect_refused(std::string(1 << 20, '['), Errc::corrupt, "deep");
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += "{\"a\":";
  expect_refused(nested, Errc::corrupt, "deep");
  for (const char* other : {"null", "[]", "7", "\"text\"", "{}"})
    expect_refused(other, Errc::unsupported, "normalizer/type is null");
}

TEST(TokenizerJson, AnotherKindOfTokenizerIsRefused) {
  const json metaspace = {{"type", "Metaspace"}}, sequence = {{"type", "Sequence"}};
  const char* llama = R"(\p{N}{1,3}|\p{L}+|\s+)";
  for (const Change& change : std::initializer_list<Change>{
           {"/normalizer", nullptr,
            "normalizer/type is null, and this tokenizer knows only \"NFC\""},
           {"/normalizer/type", "NFD", "normalizer/type is \"NFD\""},
           {"/normalizer", sequence, "normalizer/type is \"Sequence\""},
           {"/pre_tokenizer", metaspace, "pre_tokenizer/type is \"Metaspace\""},
           {"/pre_tokenizer/pretokenizers", json::array(), "pretokenizers/0/type is null"},
           {"/pre_tokenizer/pretokenizers/0/pattern/Regex", llama, "1,3"},
           {"/pre_tokenizer/pretokenizers/0/behavior", "Removed", "\"Removed\""},
           {"/pre_tokenizer/pretokenizers/0/invert", true, "invert is true"},
           {"/pre_tokenizer/pretokenizers/1/add_prefix_space", true, "add_prefix_space is true"},
           {"/pre_tokenizer/pretokenizers/1/use_regex", true, "use_regex is true"},
           {"/pre_tokenizer/pretokenizers/2", metaspace, "pretokenizers/2"},
           {"/post_processor/type", "TemplateProcessing", "post_processor"},
           {"/decoder/type", "WordPiece", "decoder/type is \"WordPiece\""},
           {"/truncation", {{"max_length", 512}}, "truncation"},
           {"/padding", {{"length", 7}}, "padding"},
           {"/model/type", "Unigram", "model/type is \"Unigram\""},
           {"/model", 7, "model/type is null"},
           {"/model/dropout", 0.1, "model/dropout is 0.1"},
           {"/model/unk_token", "<unk>", "model/unk_token"},
           {"/model/continuing_subword_prefix", "##", "prefix"},
           {"/model/end_of_word_suffix", "</w>", "suffix"},
           {"/model/byte_fallback", true, "byte_fallback"},
           {"/model/ignore_merges", true, "ignore_merges"},
           {"/added_tokens/3/lstrip", true, "\"<|AUDIO|>\" has lstrip other than false"},
           {"/added_tokens/3/rstrip", true, "rstrip"},
           {"/added_tokens/3/single_word", true, "single_word"},
           {"/added_tokens/3/normalized", true, "normalized"},
           {"/added_tokens/3/normalized", nullptr, "normalized"},
           {"/model/vocab/▁the", 1, "\"▁the\" is not spelled in the letters"},
       })
    expect_refused(change, Errc::unsupported);
}

TEST(TokenizerJson, ContradictionsAreRefused) {
  const json count = small_tokenizer()->vocabulary_size();
  for (const Change& change : std::initializer_list<Change>{
           {"/model/vocab/a", 5, "have the same id 5"},
           {"/model/vocab/a", count, "\"a\" has the id"},
           {"/model/vocab/a", 4294967361, "has the id 4294967361"},
           {"/model/vocab/a", -1, "has the id -1"},
           {"/model/vocab/a", 1e30, "has the id 1e+30"},
           {"/model/vocab/a", "5", "has the id \"5\""},
           {"/model/vocab/a", nullptr, "has the id null"},
           {"/model/vocab/a", {64}, "\"a\" has the id null"},
           {"/model/vocab/a", {{"id", 64}}, "\"a\" has the id null"},
           {"/model/vocab/new", 5, "same id 5"},
           {"/model/vocab/<|im_end|>", 5, "\"<|im_end|>\" has the id 5 in model/vocab"},
           {"/model/vocab", json::array(), "model/vocab must be an object"},
           {"/model/merges", 7, "model/merges must be a list"},
           {"/model/merges/3",
            {"crab", "fish"},
            "merge 3, [\"crab\",\"fish\"]: model/vocab has no"},
           {"/model/merges/3", {"~", "~"}, "has no token \"~~\""},
           {"/model/merges/3", {"a"}, "merge 3"},
           {"/model/merges/3", {"a", 7}, "merge 3"},
           {"/model/merges/3", "ab", "merge 3"},
           {"/model/merges/3", nullptr, "merge 3, null"},
           {"/model/merges/3", {{"a", "b"}, {"a", "b"}}, "merge 3"},
           {"/model/merges/3", {{"left", "a"}}, "merge 3, {\"left\":\"a\"}"},
           {"/added_tokens", nullptr, "added_tokens must be a list"},
           {"/added_tokens/3", "<|AUDIO|>", "an entry of added_tokens lacks"},
           {"/added_tokens/3/content", "", "an entry of added_tokens lacks"},
           {"/added_tokens/3/special", 1, "an entry of added_tokens lacks"},
           {"/added_tokens/3/content", "<|im_end|>", "\"<|im_end|>\" is listed twice"},
           {"/added_tokens/3/id", 0, "same id 0"},
           {"/added_tokens/3/id", nullptr, "\"<|AUDIO|>\" has the id null"},
           {"/added_tokens/3/id", count, "\"<|AUDIO|>\" has the id"},
       })
    expect_refused(change, Errc::corrupt);
}

TEST(TokenizerJson, ATokenThatIsListedTwiceIsRefused) {
  const std::string good = small_file().dump();
  const auto with = [&](const std::string& entry) {
    const auto at = good.find("\"vocab\":{") + 9;
    return good.substr(0, at) + entry + "," + good.substr(at);
  };
  expect_refused(with("\"a\":64"), Errc::corrupt, "have the same id 64");
  const std::string next = std::to_string(small_tokenizer()->vocabulary_size());
  expect_refused(with("\"a\":" + next), Errc::corrupt, "lists the token \"a\" twice");
}

TEST(TokenizerJson, AByteWithoutATokenIsRefused) {
  json file = small_file();
  json& vocabulary = file["model"]["vocab"];
  vocabulary["crabcrab"] = vocabulary["~"];
  vocabulary.erase("~");
  expect_refused(file.dump(), Errc::corrupt, "the byte 126: model/vocab has no token \"~\"");
}

TEST(TokenizerJson, ASpecialTokenThatTextCouldMakeIsRefused) {
  json file = small_file();
  file["added_tokens"].push_back(file["added_tokens"][0]);
  file["added_tokens"].back()["content"] = "a";
  file["added_tokens"].back()["id"] = file["model"]["vocab"]["a"];
  expect_refused(file.dump(), Errc::corrupt, "the special token \"a\" is also made of plain text");
}

TEST(TokenizerJson, AMissingSpecialTokenIsNamed) {
  for (const char* name :
       {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>",
        "<|audio_eos|>", "<|IMAGE|>", "<|VIDEO|>", "<|vision_bos|>", "<|vision_eos|>"}) {
    json file = small_file(), plain = small_file();
    for (json& token : file["added_tokens"])
      if (token["content"] == name) token["content"] = "<|another|>";
    for (json& token : plain["added_tokens"])
      if (token["content"] == name) token["special"] = false;
    for (const json& lacking : {file, plain})
      expect_refused(lacking.dump(), Errc::unsupported,
                     std::string("added_tokens has no special token ") + name);
  }
}

TEST(TokenizerJson, AFileThatCannotBeReadIsRefused) {
  const auto folder = std::filesystem::temp_directory_path() /
                      ("crabcast_tokenizer_" + std::to_string(std::random_device()()));
  std::filesystem::create_directories(folder);
  const auto path = folder / "tokenizer.json";
  const auto refusal = [](const std::filesystem::path& file) {
    const auto tokenizer = load_bpe_tokenizer(file);
    return tokenizer ? Error{Errc::ok, "accepted"} : tokenizer.error();
  };
  EXPECT_EQ(refusal(path).code, Errc::not_found);
  EXPECT_EQ(refusal(folder).code, Errc::invalid_argument);
  std::ofstream(path) << "{\"normalizer\": 7}";
  EXPECT_EQ(refusal(path).code, Errc::unsupported);
  EXPECT_NE(refusal(path).message.find(path.string() + ": "), std::string::npos);
  std::filesystem::resize_file(path, 65U << 20);
  EXPECT_EQ(refusal(path).code, Errc::invalid_argument);
  std::ofstream(path, std::ios::binary) << small_tokenizer_json();
  EXPECT_EQ(refusal(path).code, Errc::ok);
  std::filesystem::remove_all(folder);
}

// The small file with few merges, so that many mutations take little time.
std::string tiny_file() {
  json file = small_file();
  json& model = file["model"];
  while (model["merges"].size() > 40) model["merges"].erase(model["merges"].size() - 1);
  const auto kept = 256 + model["merges"].size();
  json vocabulary = json::object();
  for (const auto& [token, id] : model["vocab"].items())
    if (id < kept) vocabulary[token] = id;
  model["vocab"] = std::move(vocabulary);
  for (std::size_t i = 0; i < file["added_tokens"].size(); ++i)
    file["added_tokens"][i]["id"] = kept + i;
  return file.dump();
}

// Changes, removes or repeats a few bytes, or puts a hostile value in their place.
std::string mutated(std::string text, std::mt19937_64& random) {
  static const std::vector<std::string> values = {
      "null",    "true", "false", "-1",   "99999999999999999999",
      "1e400",   "[]",   "{}",    "\"\"", "\"a\"",
      "0",       "[[[[", "}",     "\xFF", "\\",
      "\\u0000", ",",    ":"};
  for (auto times = 1 + random() % 4; times > 0; --times) {
    const std::size_t at = random() % text.size();
    const std::size_t length = std::min<std::size_t>(1 + random() % 12, text.size() - at);
    switch (random() % 5) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, std::min(length, text.size() - 1));
        break;
      case 2:
        text.insert(random() % text.size(), text.substr(at, length));
        break;
      case 3:
        text.replace(at, length, values[random() % values.size()]);
        break;
      default:
        text[at] = static_cast<char>('0' + random() % 10);
        break;
    }
  }
  return text;
}

TEST(TokenizerJson, MutatedFilesAreRefusedOrKeepTheirPromises) {
  const std::string good = tiny_file();
  ASSERT_TRUE(parse_bpe_tokenizer(good).has_value()) << parse_bpe_tokenizer(good).error().message;
  std::mt19937_64 random(1);
  const std::string text = "a crab's <|im_end|> 12\u00E9\u6F22 \r\n  \U0001F980";
  int accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    const auto tokenizer = parse_bpe_tokenizer(mutated(good, random));
    if (!tokenizer) {
      EXPECT_GT(tokenizer.error().message.size(), 10U);
      continue;
    }
    ++accepted;
    const auto ids = (*tokenizer)->encode(text);
    EXPECT_EQ((*tokenizer)->decode(ids), text);
    for (const TokenId id : (*tokenizer)->encode_with_added_tokens(text)) {
      EXPECT_GE(id, 0);
      EXPECT_LT(id, (*tokenizer)->vocabulary_size());
    }
  }
  // Both happen, or this test says nothing.
  EXPECT_GT(accepted, 10);
  EXPECT_LT(accepted, 1500);
}

}  // namespace
}  // namespace crabcast::model
