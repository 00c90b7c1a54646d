#include "model/bpe_tokenizer.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <utility>

#include "model/byte_pairs.h"
#include "model/tokenizer_json.h"
#include "model/unicode.h"
#include "model/word_split.h"

namespace crabcast::model {
namespace {

// The tokens of words that came lately. A word takes the place of the one that stood in its slot,
// so the size is bounded.
class WordCache {
 public:
  static constexpr std::size_t kLongest = 64;  // bytes; longer words seldom come again
  struct Entry {
    std::string word;
    std::vector<TokenId> tokens;
  };
  // Where the word stands or is to stand.
  Entry& slot(std::string_view word) {
    return slots_[std::hash<std::string_view>()(word) % slots_.size()];
  }

 private:
  std::vector<Entry> slots_ = std::vector<Entry>(1U << 14);
};

// What one thread needs while it encodes.
struct Scratch {
  WordCache cache;
  BytePairs::Workspace workspace;
};

// Lends each thread a scratch of its own, and keeps them for those that come later.
class ScratchPool {
 public:
  class Lease {
   public:
    explicit Lease(ScratchPool& pool) : pool_(pool), scratch_(pool.take()) {}
    ~Lease() { pool_.give_back(std::move(scratch_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Scratch& operator*() { return *scratch_; }

   private:
    ScratchPool& pool_;
    std::unique_ptr<Scratch> scratch_;
  };

 private:
  std::unique_ptr<Scratch> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Scratch>();
    auto scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
  }
  void give_back(std::unique_ptr<Scratch> scratch) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> free_;
};

class QwenTokenizer final : public BpeTokenizer {
 public:
  QwenTokenizer(BpeVocabulary vocabulary, const SpecialTokens& special,
                std::unique_ptr<const Unicode> unicode)
      : unicode_(std::move(unicode)),
        pairs_(vocabulary.byte_tokens, vocabulary.merges),
        tokens_(std::move(vocabulary.tokens)),
        added_(std::move(vocabulary.added)),
        special_(special) {
    // Where two begin at the same byte, the longer one is meant.
    std::stable_sort(added_.begin(), added_.end(), [](const AddedToken& a, const AddedToken& b) {
      return a.content.size() > b.content.size();
    });
    for (const AddedToken& token : added_)
      if (token.special) tokens_[static_cast<std::size_t>(token.id)].clear();
  }

  [[nodiscard]] std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    ScratchPool::Lease scratch(pool_);
    append(replace_invalid_utf8(text), *scratch, ids);
    return ids;
  }

  [[nodiscard]] std::vector<TokenId> encode_with_added_tokens(std::string_view text) const override;

  [[nodiscard]] std::string decode(const std::vector<TokenId>& ids) const override {
    std::string bytes;
    for (const TokenId id : ids)
      if (id >= 0 && id < vocabulary_size()) bytes += tokens_[static_cast<std::size_t>(id)];
    return replace_invalid_utf8(bytes);
  }

  [[nodiscard]] const SpecialTokens& special() const override { return special_; }
  [[nodiscard]] std::int64_t vocabulary_size() const override {
    return static_cast<std::int64_t>(tokens_.size());
  }

 private:
  void append(std::string valid, Scratch& scratch, std::vector<TokenId>& ids) const;
  [[nodiscard]] const AddedToken* added_at(std::string_view text) const;

  std::unique_ptr<const Unicode> unicode_;
  BytePairs pairs_;
  std::vector<std::string> tokens_;  // by id: what it decodes to
  std::vector<AddedToken> added_;    // the longest first
  SpecialTokens special_;
  mutable ScratchPool pool_;
};

// Text without added tokens.
void QwenTokenizer::append(std::string valid, Scratch& scratch, std::vector<TokenId>& ids) const {
  const std::string text = unicode_->to_nfc(std::move(valid));
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view word = rest.substr(0, first_word(*unicode_, rest));
    rest.remove_prefix(word.size());
    if (word.size() > WordCache::kLongest) {
      pairs_.encode(word, scratch.workspace, ids);
      continue;
    }
    auto& entry = scratch.cache.slot(word);
    if (entry.word != word) {
      entry.word.clear();
      entry.tokens.clear();
      pairs_.encode(word, scratch.workspace, entry.tokens);
      entry.word = word;
    }
    ids.insert(ids.end(), entry.tokens.begin(), entry.tokens.end());
  }
}

// The added token that the text starts with.
const AddedToken* QwenTokenizer::added_at(std::string_view text) const {
  const auto found = std::find_if(added_.begin(), added_.end(), [&](const AddedToken& token) {
    return text.starts_with(token.content);
  });
  return found == added_.end() ? nullptr : &*found;
}

// Added tokens are looked for in the text as it came, before NFC.
std::vector<TokenId> QwenTokenizer::encode_with_added_tokens(std::string_view text) const {
  const std::string valid = replace_invalid_utf8(text);
  std::vector<TokenId> ids;
  ScratchPool::Lease scratch(pool_);
  std::size_t begin = 0;
  for (std::size_t at = 0; at < valid.size();) {
    const AddedToken* token = added_at(std::string_view(valid).substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    append(valid.substr(begin, at - begin), *scratch, ids);
    ids.push_back(token->id);
    begin = at += token->content.size();
  }
  append(valid.substr(begin), *scratch, ids);
  return ids;
}

Result<SpecialTokens> find_special(const std::vector<AddedToken>& added) {
  SpecialTokens special;
  for (const auto& [name, id] :
       {std::pair("<|endoftext|>", &special.pad), std::pair("<|im_start|>", &special.im_start),
        std::pair("<|im_end|>", &special.im_end), std::pair("<|AUDIO|>", &special.audio),
        std::pair("<|audio_bos|>", &special.audio_begin),
        std::pair("<|audio_eos|>", &special.audio_end), std::pair("<|IMAGE|>", &special.image),
        std::pair("<|VIDEO|>", &special.video), std::pair("<|vision_bos|>", &special.vision_begin),
        std::pair("<|vision_eos|>", &special.vision_end)}) {
    const auto found = std::find_if(added.begin(), added.end(), [&](const AddedToken& token) {
      return token.content == name && token.special;
    });
    if (found == added.end())
      return fail(Errc::unsupported, std::string("added_tokens has no special token ") + name +
                                         "; use the tokenizer.json of Qwen2.5-Omni");
    *id = found->id;
  }
  return special;
}

}  // namespace

Result<std::shared_ptr<const BpeTokenizer>> parse_bpe_tokenizer(std::string_view json) {
  auto vocabulary = parse_tokenizer_json(json);
  if (!vocabulary) return fail(vocabulary.error());
  const auto special = find_special(vocabulary->added);
  if (!special) return fail(special.error());
  auto unicode = Unicode::load();
  if (!unicode) return fail(unicode.error());
  return std::make_shared<const QwenTokenizer>(std::move(*vocabulary), *special,
                                               std::move(*unicode));
}

Result<std::shared_ptr<const Tokenizer>> load_bpe_tokenizer(
    const std::filesystem::path& tokenizer_json) {
  const auto text = read_tokenizer_file(tokenizer_json);
  if (!text) return fail(text.error().within(tokenizer_json.string()));
  auto tokenizer = parse_bpe_tokenizer(*text);
  if (!tokenizer) return fail(tokenizer.error().within(tokenizer_json.string()));
  return std::move(*tokenizer);
}

}  // namespace crabcast::model
