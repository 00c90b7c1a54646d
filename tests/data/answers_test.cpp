#include "data/answers.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "data/media_encode.h"
#include "tests/data/synth_fixture.h"

namespace crabcast::data {
namespace {

Sample sample_of(std::string_view dataset, std::string reference) {
  Sample sample;
  const Dataset* set = find_dataset(dataset);
  sample.dataset = static_cast<DatasetRow>(set - datasets().data());
  sample.task = set->task;
  sample.reference = std::move(reference);
  return sample;
}

double score(const Sample& sample, std::string_view answer) {
  const auto result = score_answer(sample, answer);
  EXPECT_TRUE(result.has_value()) << result.error().message;
  return result ? result->value : -1;
}

TEST(Answers, TheFinalAnswerIsBetweenItsTags) {
  EXPECT_EQ(final_answer(make_target("it hops", "bouncing")), "bouncing");
  EXPECT_EQ(make_target("it hops", "bouncing"), "<think>it hops</think><answer>bouncing</answer>");
  EXPECT_EQ(final_answer("  two \n"), "two");
  EXPECT_EQ(final_answer("<answer> two"), "two");  // cut off by the token limit
  EXPECT_EQ(final_answer("<answer>a</answer><answer>b</answer>"), "a");
  EXPECT_EQ(final_answer(""), "");
  EXPECT_EQ(final_answer("<answer></answer>"), "");
}

TEST(Answers, AMatchIsTheNameOfOneOfTwo) {
  const auto a2v = sample_of("a2v", "video2");
  EXPECT_EQ(score(a2v, make_target("I hear a drum", "video2")), 1);
  EXPECT_EQ(score(a2v, "Video 2."), 1);
  EXPECT_EQ(score(a2v, "video1"), 0);
  EXPECT_EQ(score(sample_of("v2a", "audio1"), "audio1"), 1);
  EXPECT_EQ(metric_name(Task::av_matching), "accuracy");
}

TEST(Answers, TheFirstBoxIsTaken) {
  const auto box = first_box("bell [5] [1,2] [10,20, 30 ,40.5] [1,2,3,4]");
  ASSERT_TRUE(box.has_value());
  EXPECT_EQ(box->x1, 10);
  EXPECT_EQ(box->y1, 20);
  EXPECT_EQ(box->x2, 30);
  EXPECT_EQ(box->y2, 40.5);
  for (const char* text : {"", "bell", "[1,2,3]", "[1,2,3,4", "[1,2,3,4,5]", "[a,b,c,d]", "1,2,3,4",
                           "[1 2 3 4]", "[,,,]", "[nan,1,2,3]", "["})
    EXPECT_FALSE(first_box(text).has_value()) << text;
  EXPECT_EQ(format_box({1, 2, 223, 9.5}), "[1,2,223,9.5]");
}

TEST(Answers, EventsSurviveTheRoundTrip) {
  const std::vector<Event> events = {{"church bell", 2, 5, Modality::audio},
                                     {"drum", 0, 9.5, Modality::both},
                                     {"man speaking", 3, 4, Modality::none}};
  const std::string text = format_events(events);
  EXPECT_EQ(text, "church bell (audio): 2-5 s; drum (both): 0-9.5 s; man speaking: 3-4 s");
  const std::vector<Event> back = parse_events(text);
  ASSERT_EQ(back.size(), events.size());
  for (std::size_t i = 0; i < back.size(); ++i) {
    EXPECT_EQ(back[i].name, events[i].name);
    EXPECT_EQ(back[i].start, events[i].start);
    EXPECT_EQ(back[i].end, events[i].end);
    EXPECT_EQ(back[i].modality, events[i].modality);
  }
  EXPECT_EQ(format_events({}), "none");
  EXPECT_TRUE(parse_events("none").empty());
}

TEST(Answers, PiecesThatAreNoEventsAreLeftOut) {
  const auto events =
      parse_events("; bell; bell: ; drum: 5-2 s; : 1-2 s; horn (loud): 1-2; x: 1-y");
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].name, "horn (loud)");  // not a modality: part of the name
  EXPECT_EQ(events[0].modality, Modality::none);
}

TEST(Answers, BoxesOverlapByTheirAreas) {
  const Box a{0, 0, 10, 10};
  EXPECT_DOUBLE_EQ(box_iou(a, a), 1.0);
  EXPECT_DOUBLE_EQ(box_iou(a, {5, 0, 15, 10}), 1.0 / 3);
  EXPECT_DOUBLE_EQ(box_iou(a, {20, 20, 30, 30}), 0.0);
  EXPECT_DOUBLE_EQ(box_iou(a, {10, 10, 0, 0}), 0.0);  // turned inside out
  EXPECT_DOUBLE_EQ(box_iou({3, 3, 3, 3}, {3, 3, 3, 3}), 0.0);
}

TEST(Answers, ABoxIsHeldAgainstAMaskOfAnySize) {
  // 4 x 4 pixels of 56 x 56 each; the two middle columns of the two middle rows are the object.
  const std::vector<std::uint8_t> mask = {0, 0, 0, 0, 0, 9, 9, 0, 0, 9, 9, 0, 0, 0, 0, 0};
  EXPECT_DOUBLE_EQ(mask_box_iou(mask, 4, 4, Box{56, 56, 167, 167}), 1.0);
  EXPECT_DOUBLE_EQ(mask_box_iou(mask, 4, 4, Box{56, 56, 111, 167}), 0.5);
  EXPECT_DOUBLE_EQ(mask_box_iou(mask, 4, 4, Box{0, 0, 223, 223}), 0.25);
  EXPECT_DOUBLE_EQ(mask_box_iou(mask, 4, 4, Box{0, 0, 55, 55}), 0.0);
  EXPECT_DOUBLE_EQ(mask_box_iou(mask, 4, 4, std::nullopt), 0.0);
  const std::vector<std::uint8_t> empty(16, 0);
  EXPECT_DOUBLE_EQ(mask_box_iou(empty, 4, 4, std::nullopt), 1.0);
  EXPECT_DOUBLE_EQ(mask_box_iou(empty, 4, 4, Box{0, 0, 100, 100}), 0.0);
  // Wider than high.
  const std::vector<std::uint8_t> wide = {1, 0, 0, 0};
  EXPECT_DOUBLE_EQ(mask_box_iou(wide, 4, 1, Box{0, 0, 55, 223}), 1.0);
}

TEST(Answers, SegmentAccuracyCountsSeconds) {
  const std::vector<Event> truth = {{"bell", 2, 5, Modality::none}};
  EXPECT_DOUBLE_EQ(segment_accuracy(truth, truth), 1.0);
  EXPECT_DOUBLE_EQ(segment_accuracy(truth, {}), 0.7);
  const std::vector<Event> late = {{"Bell", 3, 5, Modality::none}};
  EXPECT_DOUBLE_EQ(segment_accuracy(truth, late), 0.9);
  const std::vector<Event> other = {{"drum", 2, 5, Modality::none}};
  EXPECT_DOUBLE_EQ(segment_accuracy(truth, other), 0.7);
  const std::vector<Event> heard = {{"bell", 2, 5, Modality::audio}};
  EXPECT_DOUBLE_EQ(segment_accuracy(truth, heard), 0.7);  // the modality is part of the label
  const std::vector<Event> beyond = {{"bell", -3, 99, Modality::none}};
  EXPECT_DOUBLE_EQ(segment_accuracy(truth, beyond), 0.3);
}

TEST(Answers, TokenF1CountsWords) {
  EXPECT_DOUBLE_EQ(token_f1("a red drum beats", "A red drum beats."), 1.0);
  EXPECT_DOUBLE_EQ(token_f1("a red drum", "a blue drum"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(token_f1("drum", "drum drum drum drum"), 0.4);
  EXPECT_DOUBLE_EQ(token_f1("drum", ""), 0.0);
  EXPECT_DOUBLE_EQ(token_f1("", ""), 0.0);
}

TEST(Answers, ClassesAreComparedWithoutCaseBlanksAndPunctuation) {
  for (const char* set : {"ks", "ucf", "meld", "avqa", "avqa_thu"}) {
    const Sample sample = sample_of(set, "PlayingGuitar");
    EXPECT_EQ(score(sample, make_target("strings", "playing guitar.")), 1.0);
    EXPECT_EQ(score(sample, "Playing-Guitar"), 1.0);
    EXPECT_EQ(score(sample, make_target("playing guitar", "singing")), 0.0);
    EXPECT_EQ(score(sample, ""), 0.0);
  }
}

TEST(Answers, EachTaskHasItsScore) {
  EXPECT_EQ(score(sample_of("ave", "bell: 2-5 s"), make_target("rings", "bell: 2-5 s")), 1.0);
  EXPECT_EQ(score(sample_of("avvp", "none"), "none"), 1.0);
  EXPECT_EQ(score(sample_of("arig", "bell [0,0,10,10]"), "bell [5,0,15,10]"), 1.0 / 3);
  EXPECT_EQ(score(sample_of("arig", "bell [0,0,10,10]"), "bell"), 0.0);
  Sample caption = sample_of("avcap", "a dog barks");
  caption.references = {"a dog barks", "an animal is heard"};
  EXPECT_EQ(score(caption, make_target("dog", "an animal is heard")), 1.0);
  EXPECT_LT(score(caption, "a cat"), 0.5);

  const std::vector<std::pair<std::string_view, std::string_view>> names = {
      {"ks", "accuracy"},  {"meld", "accuracy"}, {"avqa", "accuracy"}, {"ave", "segment_accuracy"},
      {"arig", "box_iou"}, {"s4", "mask_iou"},   {"avcap", "token_f1"}};
  for (const auto& [set, metric] : names)
    EXPECT_EQ(metric_name(find_dataset(set)->task), metric) << set;
}

TEST(Answers, AMaskIsReadFromItsFile) {
  const testing::TemporaryFolder scratch;
  std::vector<std::uint8_t> mask(224 * 224);
  for (int y = 20; y <= 59; ++y)
    for (int x = 10; x <= 109; ++x) mask[static_cast<std::size_t>(y) * 224 + x] = 255;
  const auto png = encode_png(mask, 224, 224);
  ASSERT_TRUE(png.has_value()) << png.error().message;
  Sample sample = sample_of("s4", "bell");
  sample.mask = scratch.path() / "0.png";
  std::ofstream(sample.mask, std::ios::binary)
      .write(reinterpret_cast<const char*>(png->data()), static_cast<long>(png->size()));

  EXPECT_EQ(score(sample, make_target("rings", "bell [10,20,109,59] [50,40]")), 1.0);
  EXPECT_EQ(score(sample, "bell [10,20,59,59]"), 0.5);
  EXPECT_EQ(score(sample, "bell"), 0.0);

  sample.mask = scratch.path() / "missing.png";
  const auto missing = score_answer(sample, "bell [10,20,109,59]");
  ASSERT_FALSE(missing.has_value());
  EXPECT_NE(missing.error().message.find("missing.png"), std::string::npos);
  EXPECT_NE(missing.error().message.find("s4"), std::string::npos);
}

TEST(Answers, WhatIsNotThereIsRightWithoutABox) {
  const Sample absent = sample_of("ref_avs", "the red one that sounds");
  EXPECT_EQ(score(absent, make_target("no such thing", "none")), 1.0);
  EXPECT_EQ(score(absent, "drum [1,2,30,40]"), 0.0);
}

TEST(Answers, AReferenceThatIsNoAnswerIsADataError) {
  for (const auto& [set, reference] : std::vector<std::pair<std::string_view, std::string>>{
           {"ks", " . "}, {"ave", "a bell rings early"}, {"arig", "bell [1,2,3]"}}) {
    const auto result = score_answer(sample_of(set, reference), "x");
    ASSERT_FALSE(result.has_value()) << set;
    EXPECT_EQ(result.error().code, Errc::data_error) << set;
    EXPECT_NE(result.error().message.find(reference), std::string::npos) << result.error().message;
  }
}

}  // namespace
}  // namespace crabcast::data
