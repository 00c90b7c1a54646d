#include "model/generation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "model/packing.h"
#include "model/sampling.h"
#include "model/thinker.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

Status check(const GenerationOptions& options) {
  const auto wrong = [](const char* name, double value, const char* range) {
    const std::string given = std::isfinite(value) ? exact_number(value) : "not a finite number";
    return fail(Errc::invalid_argument,
                std::string(name) + " is " + given + "; it must be " + range);
  };
  // Written so that NaN is wrong, too.
  if (options.max_new_tokens < 1)
    return wrong("max_new_tokens", options.max_new_tokens, "at least 1");
  if (!(options.temperature >= 0 && options.temperature <= 1e6))
    return wrong("temperature", options.temperature, "from 0 to 1e6");
  if (!(options.top_p > 0 && options.top_p <= 1))
    return wrong("top_p", options.top_p, "above 0 and at most 1");
  return {};
}

// A sample that goes on, with its newest token.
struct Next {
  std::size_t sample;
  TokenId id;
};

// Prompts and answers as far as the model has read them.
class Reader {
 public:
  Reader(const Thinker& thinker, const PackedInput& prompts, std::int64_t max_new_tokens)
      : thinker_(thinker), next_position_(prompts.next_position) {
    const at::TensorOptions options = thinker.text.embed_tokens_VD.options();
    for (const std::int64_t length : prompts.lengths)
      caches_.push_back(make_kv_cache(thinker.config.text, length + max_new_tokens, options));
  }

  // Hidden state after the last token of each prompt.
  at::Tensor read(const PackedInput& prompts) {
    std::vector<KvCache*> caches;
    std::vector<std::int64_t> last_rows;
    std::int64_t rows = 0;
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      caches.push_back(&caches_[i]);
      rows += prompts.lengths[i];
      last_rows.push_back(rows - 1);
    }
    const at::Tensor x_TD = embed(thinker_, prompts, {});
    return run(x_TD, prompts.position_ids_3T, prompts.lengths, caches)
        .index_select(0, to_tensor(last_rows));
  }

  // Hidden state after one more token of some samples.
  at::Tensor read(const std::vector<Next>& tokens) {
    std::vector<KvCache*> caches;
    std::vector<std::int64_t> ids, positions;
    for (const Next& next : tokens) {
      caches.push_back(&caches_[next.sample]);
      ids.push_back(next.id);
      positions.push_back(next_position_[next.sample]++);
    }
    return run(at::embedding(thinker_.text.embed_tokens_VD, to_tensor(ids)),
               to_tensor(positions).expand({3, -1}), std::vector<std::int64_t>(ids.size(), 1),
               caches);
  }

 private:
  [[nodiscard]] at::Tensor to_tensor(const std::vector<std::int64_t>& values) const {
    return at::tensor(values, at::kLong).to(thinker_.text.embed_tokens_VD.device());
  }
  [[nodiscard]] at::Tensor run(const at::Tensor& x_TD, const at::Tensor& positions_3T,
                               const std::vector<std::int64_t>& lengths,
                               const std::vector<KvCache*>& caches) const {
    return decode(thinker_.text, x_TD,
                  text_rotary(thinker_.config.text, positions_3T, x_TD.scalar_type()), lengths, {},
                  caches);
  }

  const Thinker& thinker_;
  std::vector<std::int64_t> next_position_;  // of each sample
  std::vector<KvCache> caches_;              // of each sample
};

}  // namespace

Result<std::vector<Generated>> generate(const Thinker& thinker, const PackedInput& prompts,
                                        const GenerationOptions& options) {
  CRABCAST_TRY(check(options));
  const at::NoGradGuard no_grad;
  std::vector<TokenId> ends = options.stop;
  ends.insert(ends.end(), {thinker.config.special.im_end, thinker.config.special.pad});

  std::vector<Generated> answers(prompts.lengths.size());
  std::vector<std::size_t> active;  // samples that go on
  for (std::size_t i = 0; i < answers.size(); ++i) active.push_back(i);
  Reader reader(thinker, prompts, options.max_new_tokens);
  at::Tensor hidden_ND = reader.read(prompts);
  for (int index = 0;; ++index) {
    std::vector<std::uint64_t> numbers;
    for (const std::size_t i : active) numbers.push_back(options.first_sample + i);
    auto ids = choose_tokens(logits(thinker, hidden_ND), options, numbers,
                             static_cast<std::uint64_t>(index));
    CRABCAST_TRY(ids);

    std::vector<Next> going_on;
    for (std::size_t n = 0; n < active.size(); ++n) {
      const Next next{active[n], (*ids)[n]};
      Generated& answer = answers[next.sample];
      if (std::find(ends.begin(), ends.end(), next.id) != ends.end()) {
        answer.ending = Ending::end_token;
        continue;
      }
      answer.ids.push_back(next.id);
      if (options.on_token && !options.on_token(next.sample, next.id))
        answer.ending = Ending::refused;
      else if (index + 1 < options.max_new_tokens)
        going_on.push_back(next);
    }
    if (going_on.empty()) return answers;
    hidden_ND = reader.read(going_on);
    active.clear();
    for (const Next& next : going_on) active.push_back(next.sample);
  }
}

}  // namespace crabcast::model
