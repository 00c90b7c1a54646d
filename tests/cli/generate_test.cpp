// `crabcast generate`: the real programs answer as the model itself does, with the base alone and
// with adapters out of stores.
#include <ATen/ATen.h>

#include <cstring>

#include "data/batch.h"
#include "data/prompt.h"
#include "model/random.h"
#include "model/session.h"
#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kPrompt = "What do you hear?";

template <class T>
std::string raw(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// One second of a rising tone, 16 bit, mono.
std::string wave_file(std::uint32_t rate = 16000) {
  std::string samples;
  for (std::uint32_t i = 0; i < rate; ++i)
    samples += raw(static_cast<std::int16_t>(8000 * std::sin(0.02 * i + 1e-6 * i * i)));
  const auto size = static_cast<std::uint32_t>(samples.size());
  return "RIFF" + raw(36 + size) + "WAVEfmt " + raw(std::uint32_t{16}) + raw(std::uint16_t{1}) +
         raw(std::uint16_t{1}) + raw(rate) + raw(2 * rate) + raw(std::uint16_t{2}) +
         raw(std::uint16_t{16}) + "data" + raw(size) + samples;
}

// A picture of 8 x 8 colours.
std::string bitmap_file() {
  std::string pixels;
  for (int i = 0; i < 64; ++i)
    for (int c = 0; c < 3; ++c) pixels.push_back(static_cast<char>(i * (3 - c)));
  const auto size = static_cast<std::uint32_t>(pixels.size());
  return "BM" + raw(54 + size) + raw(std::uint32_t{0}) + raw(std::uint32_t{54}) +
         raw(std::uint32_t{40}) + raw(std::int32_t{8}) + raw(std::int32_t{8}) +
         raw(std::uint16_t{1}) + raw(std::uint16_t{24}) + raw(std::uint32_t{0}) + raw(size) +
         std::string(16, '\0') + pixels;
}

// A job's store with adapters of nano, as its workers save them, and the session that knows what
// they say.
class GenerateTest : public CliTest {
 protected:
  GenerateTest() {
    write_file(sound(), wave_file());
    write_file(picture(), bitmap_file());
  }
  [[nodiscard]] fs::path sound() const { return folder_ / "tone.wav"; }
  [[nodiscard]] fs::path picture() const { return folder_ / "colours.bmp"; }

  static std::unique_ptr<model::Session> open_session(bool with_adapter) {
    model::SessionOptions options;
    options.model.base = "nano";
    options.with_adapter = with_adapter;
    return must(model::Session::open(options));
  }

  // State with an adapter that says something; a function of the key.
  static std::vector<model::NamedTensor> lively_state(model::Session& session, std::uint64_t key) {
    auto state = session.state();
    for (auto& [name, tensor] : state)
      if (name.starts_with("adapter/"))
        model::fill_uniform(tensor, model::combine_key(key, model::name_key(name)), 0.4);
    EXPECT_TRUE(session.load_state(state, true).has_value());
    // Not in the order in which a worker saves it: nothing may rely on that.
    std::rotate(state.begin(), state.begin() + static_cast<std::ptrdiff_t>(state.size() / 2),
                state.end());
    return state;
  }

  static void save(storage::JobStore& store, std::uint64_t id, const std::string& base_hash,
                   const std::vector<model::NamedTensor>& state) {
    constexpr std::size_t kChunk = 100'003;  // tensors begin and end anywhere in a chunk
    pb::CheckpointManifest manifest;
    manifest.set_id(id);
    manifest.set_step(id);
    manifest.set_base_hash(base_hash);
    std::string stream;
    for (const auto& [name, tensor] : state) {
      auto& entry = *manifest.add_tensors();
      entry.set_name(name);
      entry.set_dtype(tensor.scalar_type() == at::kFloat ? pb::DTYPE_FLOAT32 : pb::DTYPE_INT64);
      for (const auto size : tensor.sizes()) entry.add_shape(size);
      entry.set_offset(stream.size());
      entry.set_bytes(tensor.nbytes());
      stream.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
    }
    manifest.set_bytes(stream.size());
    auto writer = must(store.begin_checkpoint(CheckpointId{id}));
    for (std::uint32_t i = 0; i * kChunk < stream.size(); ++i) {
      const std::string chunk = stream.substr(i * kChunk, kChunk);
      *manifest.add_chunks() = make_chunk_entry(i, storage::as_span(chunk));
      must(writer->put_chunk(manifest.chunks(static_cast<int>(i)), storage::as_span(chunk)));
    }
    must(writer->commit(manifest));
  }

  // What the session says to the prompt and the sound.
  [[nodiscard]] std::string expected(model::Session& session,
                                     const model::GenerationOptions& options) const {
    data::Sample sample;
    sample.dataset =
        static_cast<data::DatasetRow>(data::find_dataset("avcap") - data::datasets().data());
    sample.audio = sound();
    sample.question = kPrompt;
    const auto processed =
        must(data::process_sample(sample, session.front_end(), std::chrono::minutes(1)));
    const auto batch = data::make_batch({processed}, session.front_end(), data::BatchUse::generate);
    const auto answers = must(session.generate({batch.input_ids,
                                                batch.attention_mask,
                                                {},
                                                batch.pixel_values,
                                                batch.grid_thw,
                                                batch.seconds_per_grid,
                                                batch.audio_features,
                                                batch.audio_lengths},
                                               options));
    return session.front_end().tokenizer->decode(answers.front().ids);
  }

  // To the prompt and the sound, with one thread, as the session has.
  [[nodiscard]] json ask(std::vector<std::string> more, int code = 0) const {
    more.insert(more.begin(), {"generate", "--prompt", kPrompt, "--audio", sound(),
                               "--max-new-tokens", "12", "--threads", "1"});
    return run_json(more, code);
  }
  [[nodiscard]] std::string refusal(std::vector<std::string> more, int code) const {
    return ask(std::move(more), code).at("error").at("message");
  }
};

TEST_F(GenerateTest, TheBaseAloneSaysWhatTheSessionSays) {
  const auto session = open_session(false);
  const json answer = ask({"--base", "nano"});
  EXPECT_EQ(answer.at("text"), expected(*session, {.max_new_tokens = 12}));
  EXPECT_EQ(answer.at("base_hash"), session->base_hash());
  EXPECT_EQ(answer.at("adapter"), nullptr);
  EXPECT_EQ(answer.at("precision"), "float32");
  const auto plain = run({"generate", "--base", "nano", "--prompt", kPrompt, "--audio", sound(),
                          "--max-new-tokens", "12", "--threads", "1"});
  EXPECT_EQ(plain.code, 0) << plain.err;
  EXPECT_EQ(plain.out, answer.at("text").get<std::string>() + "\n");
  EXPECT_EQ(plain.err, "");
}

TEST_F(GenerateTest, TheAdapterOfACheckpointIsUsed) {
  const auto session = open_session(true);
  auto store = open_store("tiny-1");
  must(store->put_value("spec", small_spec("tiny"), storage::Sync::yes));
  save(*store, 50, session->base_hash(), lively_state(*session, 50));
  const std::string fifty = expected(*session, {.max_new_tokens = 12});
  const std::string drawn =
      expected(*session, {.max_new_tokens = 12, .temperature = 0.8, .top_p = 0.9, .seed = 3});
  save(*store, 100, session->base_hash(), lively_state(*session, 100));
  const std::string hundred = expected(*session, {.max_new_tokens = 12});
  ASSERT_NE(fifty, hundred);

  // The base is the job's; the store is open, as while a job runs.
  const json newest = ask({"--adapter", "job:tiny-1"});
  EXPECT_EQ(newest.at("text"), hundred);
  EXPECT_EQ(newest.at("adapter"), "checkpoint 100 of job tiny-1");
  EXPECT_EQ(ask({"--base", "nano", "--adapter", "job:tiny-1@50"}).at("text"), fifty);
  EXPECT_EQ(ask({"--adapter", job_dir("tiny-1")}).at("text"), hundred);
  EXPECT_EQ(ask({"--adapter", (job_dir("tiny-1") / "store").string() + "@50"}).at("text"), fifty);
  EXPECT_EQ(
      ask({"--adapter", "job:tiny-1@50", "--temperature", "0.8", "--top-p", "0.9", "--seed", "3"})
          .at("text"),
      drawn);

  EXPECT_THAT(refusal({"--adapter", "job:tiny-1@70"}, 4),
              AllOf(HasSubstr("no checkpoint 70"), HasSubstr("50, 100")));
  EXPECT_THAT(refusal({"--adapter", "job:tiny-1@x"}, 3), HasSubstr("number of a checkpoint"));
  EXPECT_THAT(refusal({"--adapter", "job:tiny-2"}, 4), HasSubstr("tiny-2"));
}

TEST_F(GenerateTest, AWrongAdapterIsRefused) {
  const auto session = open_session(true);
  auto store = open_store("tiny-1");
  must(store->put_value("spec", small_spec("tiny"), storage::Sync::yes));
  save(*store, 1, std::string(32, 'a'), lively_state(*session, 1));
  EXPECT_THAT(refusal({"--adapter", "job:tiny-1"}, 3),
              AllOf(HasSubstr("another base"), HasSubstr(session->base_hash())));

  auto state = lively_state(*session, 1);
  std::erase_if(state,
                [](const auto& one) { return one.name.find("lora_route") != std::string::npos; });
  save(*store, 2, session->base_hash(), state);
  EXPECT_THAT(refusal({"--adapter", "job:tiny-1"}, 1), HasSubstr("lora_route"));

  EXPECT_THAT(refusal({"--base", "nano", "--adapter", sound()}, 1), HasSubstr("tone.wav"));
}

TEST_F(GenerateTest, AnAdapterInAFileIsThatOfItsCheckpoint) {
  const auto session = open_session(true);
  auto store = open_store("tiny-1");
  must(store->put_value("spec", small_spec("tiny"), storage::Sync::yes));
  auto state = lively_state(*session, 1);
  // As a worker saves it: the adapter first.
  std::stable_partition(state.begin(), state.end(),
                        [](const auto& one) { return one.name.starts_with("adapter/"); });
  save(*store, 1, session->base_hash(), state);
  const std::string text = expected(*session, {.max_new_tokens = 12});
  const std::string file = folder_ / "adapter.safetensors";
  const auto exported =
      run({"adapter", "export", "--job", "tiny-1", "--format", "crab", "--out", file});
  ASSERT_EQ(exported.code, 0) << exported.err;
  const json answer = ask({"--base", "nano", "--adapter", file});
  EXPECT_EQ(answer.at("text"), text);
  EXPECT_EQ(answer.at("adapter"), file);
}

TEST_F(GenerateTest, APictureAndASoundAreSeenAndHeard) {
  const auto tokens = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"generate", "--base", "nano", "--prompt", "hi", "--max-new-tokens",
                               "1", "--threads", "1"});
    return run_json(more).at("prompt_tokens").get<int>();
  };
  const int none = tokens({});
  EXPECT_EQ(tokens({"--image", picture()}), none + 16 + 2);
  EXPECT_EQ(tokens({"--audio", sound()}), none + 25 + 2);
  EXPECT_EQ(tokens({"--image", picture(), "--audio", sound()}), none + 16 + 25 + 4);
  EXPECT_EQ(tokens({"--system", ""}), none - static_cast<int>(data::kSystemText.size()));
}

TEST_F(GenerateTest, TextsAndPathsNeedNotBeUtf8) {
  const fs::path odd = folder_ / "t\xF6ne.wav";
  fs::copy_file(sound(), odd);
  const json answer = run_json({"generate", "--base", "nano", "--prompt", "na\xEFve?", "--audio",
                                odd, "--max-new-tokens", "1", "--threads", "1"});
  EXPECT_EQ(answer.at("new_tokens"), 1);
}

TEST_F(GenerateTest, AStopTextEndsTheAnswer) {
  const std::string all = ask({"--base", "nano"}).at("text");
  ASSERT_FALSE(all.empty());
  // The first letter of the answer, whatever it is.
  std::size_t length = 1;
  while (length < all.size() && (all[length] & 0xC0) == 0x80) ++length;
  const json stopped =
      ask({"--base", "nano", "--stop", "never said", "--stop", all.substr(0, length)});
  EXPECT_EQ(stopped.at("text"), "");
  EXPECT_EQ(stopped.at("ending"), "stop");
}

TEST_F(GenerateTest, BadInputIsNamed) {
  EXPECT_THAT(refusal({"--base", "nona"}, 4), HasSubstr("nona"));
  EXPECT_THAT(refusal({}, 3), HasSubstr("--base"));
  EXPECT_THAT(refusal({"--base", "nano", "--top-p", "0.5"}, 3), HasSubstr("--temperature"));
  EXPECT_THAT(refusal({"--base", "nano", "--data-set", "avcat"}, 3), HasSubstr("avcap"));
  EXPECT_THAT(refusal({"--base", "nano", "--video", folder_ / "gone.mp4"}, 4),
              HasSubstr("gone.mp4"));
  write_file(folder_ / "text.jpg", "no picture");
  EXPECT_THAT(refusal({"--base", "nano", "--image", folder_ / "text.jpg"}, 3),
              HasSubstr("text.jpg"));
  EXPECT_THAT(refusal({"--base", "nano", "--device", "cuda:99"}, 3), HasSubstr("cuda:99"));
  for (const auto& [option, value] :
       {std::pair("--top-p", "1.5"), std::pair("--temperature", "-1"),
        std::pair("--max-new-tokens", "0"), std::pair("--precision", "int8")}) {
    const auto done = run({"generate", "--base", "nano", "--prompt", "x", option, value});
    EXPECT_EQ(done.code, 2) << option;
    EXPECT_THAT(done.err, HasSubstr(option));
  }
  EXPECT_EQ(run({"generate", "--base", "nano"}).code, 2);
}

}  // namespace
}  // namespace crabcast::testing
