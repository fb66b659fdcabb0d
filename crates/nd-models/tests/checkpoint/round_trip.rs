//! What is saved comes back.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use nd_core::autograd::{Params, ParamsBuilder};
use nd_core::train_state::TrainState;
use nd_core::{Buffer, Precision, Real, bf16, f16};
use nd_models::checkpoint::{RawCheckpoint, read, save, save_half};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use super::{
    CONFIG, Folder, assert_same_state, bits, bytes_of, checksum, load, rich_layout, rich_state,
    sign, take_apart,
};

fn parse(bytes: Vec<u8>) -> RawCheckpoint {
    RawCheckpoint::parse(bytes, Path::new("the.file")).unwrap()
}

fn comes_back<R: Real>() {
    let layout = rich_layout();
    let params = Params::<R>::init(&layout, 3);
    let state = rich_state::<R>(&layout);
    let folder = Folder::new("round-trip");
    let path = folder.file("model.safetensors");
    save(&path, CONFIG, &params, Some(&state)).unwrap();
    assert_eq!(folder.names(), ["model.safetensors"]);

    let raw = read(&path).unwrap();
    assert_eq!(raw.config(), CONFIG);
    assert!(raw.has_state());
    let back = raw.params::<R>(&layout).unwrap();
    assert_eq!(bits(back.flat()), bits(params.flat()));
    assert_same_state(&raw.state(&layout).unwrap().unwrap(), &state);
    // Moments of what is not trained are not there to come back.
    assert_eq!(state.moments[0].len(), layout.trainable_len());
}

#[test]
fn f32_comes_back() {
    comes_back::<f32>();
}

#[test]
fn f64_comes_back() {
    comes_back::<f64>();
}

#[test]
fn half_the_file_comes_back_rounded_into_either_type() {
    let layout = rich_layout();
    let params = Params::<f32>::init(&layout, 3);
    let folder = Folder::new("half");
    let whole = folder.file("whole.safetensors");
    save(&whole, CONFIG, &params, None).unwrap();
    for precision in [Precision::Bf16, Precision::F16] {
        let path = folder.file("half.safetensors");
        save_half(&path, CONFIG, &params, precision).unwrap();
        let values = layout.ids().filter(|&id| layout.owner(id) == id);
        let values: usize = values.map(|id| layout.range(id).len()).sum();
        let bytes = |path: &Path| std::fs::metadata(path).unwrap().len() as usize;
        // The headers differ by a few characters; the tensors by half.
        let saved = bytes(&whole) - bytes(&path);
        assert!(
            saved.abs_diff(2 * values) < 200,
            "{saved} of {values} values"
        );
        let raw = read(&path).unwrap();
        let (narrow, wide) = (raw.params::<f32>(&layout), raw.params::<f64>(&layout));
        let (narrow, wide) = (narrow.unwrap(), wide.unwrap());
        for ((&x, &narrow), &wide) in params.flat().iter().zip(narrow.flat()).zip(wide.flat()) {
            let expected = match precision {
                Precision::F16 => f16::from_f32(x).to_f64(),
                _ => bf16::from_f32(x).to_f64(),
            };
            assert_eq!((f64::from(narrow), wide), (expected, expected));
        }
        // What is half already stays what it is.
        save_half(&path, CONFIG, &narrow, precision).unwrap();
        let again = read(&path).unwrap().params::<f32>(&layout).unwrap();
        assert_eq!(bits(again.flat()), bits(narrow.flat()));
    }
}

#[test]
fn a_parameter_beyond_f16_is_refused_and_leaves_the_old_file() {
    let layout = rich_layout();
    let mut params = Params::<f32>::init(&layout, 3);
    let folder = Folder::new("beyond-f16");
    let path = folder.file("model.safetensors");
    save(&path, CONFIG, &params, None).unwrap();
    let id = layout.ids().next().unwrap();
    params.get_mut(id)[0] = 1e6;
    let error = save_half(&path, CONFIG, &params, Precision::F16).unwrap_err();
    assert!(error.to_string().contains("65504"), "{error}");
    assert!(read(&path).unwrap().params::<f32>(&layout).is_ok());
    save_half(&path, CONFIG, &params, Precision::Bf16).unwrap();
}

#[test]
fn parameters_alone_come_back() {
    let layout = rich_layout();
    let params = Params::<f32>::init(&layout, 3);
    let (config, back, state) = load(bytes_of(&params, None), &layout).unwrap();
    assert_eq!((config.as_str(), back.flat()), (CONFIG, params.flat()));
    assert!(state.is_none());

    let nothing = ParamsBuilder::new().build();
    let state = TrainState::<f32>::new(&nothing, 1, 2);
    let bytes = bytes_of(&Params::zeros(&nothing), Some(&state));
    let (_, back, again) = load(bytes, &nothing).unwrap();
    assert!(back.flat().is_empty());
    assert_same_state(&again.unwrap(), &state);
}

#[test]
fn numbers_that_are_not_finite_keep_their_bits() {
    let layout = rich_layout();
    let mut params = Params::<f32>::init(&layout, 3);
    let weight = layout.find("linear.weight").unwrap();
    let special = [
        0x7fc0_0001,
        0xffc1_2345,
        0x7f80_0001,
        0x7f80_0000,
        0x8000_0000u32,
    ];
    for (slot, &bits) in params.get_mut(weight).iter_mut().zip(&special) {
        *slot = f32::from_bits(bits);
    }
    let (_, back, _) = load(bytes_of(&params, None), &layout).unwrap();
    let found: Vec<u32> = back
        .get(weight)
        .iter()
        .take(5)
        .map(|x| x.to_bits())
        .collect();
    assert_eq!(found, special);
}

#[test]
fn scalars_of_the_state_are_exact() {
    let layout = rich_layout();
    let params = Params::<f32>::init(&layout, 3);
    for (i, x) in [
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::MIN_POSITIVE / 2.0,
        0.1,
        1e300,
    ]
    .into_iter()
    .enumerate()
    {
        let mut state = rich_state::<f32>(&layout);
        state.step = u64::MAX - i as u64;
        state.sampler.stream.drawn = u64::MAX;
        state.sampler.epoch.truncate(i % 3);
        state.loss_scale.scale = x;
        state.early_stopping.checks_since_best = u64::MAX;
        match &mut state.early_stopping.best {
            Some(best) if i % 2 == 0 => best.loss = x,
            best => *best = None,
        }
        let (_, _, back) = load(bytes_of(&params, Some(&state)), &layout).unwrap();
        assert_same_state(&back.unwrap(), &state);
    }
}

#[test]
fn equal_contents_give_equal_files() {
    let layout = rich_layout();
    let (params, state) = (Params::<f32>::init(&layout, 3), rich_state(&layout));
    assert_eq!(
        bytes_of(&params, Some(&state)),
        bytes_of(&params.clone(), Some(&state.clone()))
    );
}

#[test]
fn a_parameter_longer_than_a_piece_comes_back() {
    let mut b = ParamsBuilder::new();
    let init = nd_core::autograd::Init::Uniform(1.0);
    b.trainable("long", [50_001], init);
    let layout = b.build();
    let params = Params::<f64>::init(&layout, 1);
    let mut state = TrainState::new(&layout, 1, 1);
    state.sampler.epoch = (0..40_003)
        .map(|i: u32| i.wrapping_mul(2_654_435_761))
        .collect();
    let raw = parse(bytes_of(&params, Some(&state)));
    assert_eq!(
        bits(raw.params::<f64>(&layout).unwrap().flat()),
        bits(params.flat())
    );
    assert_same_state(&raw.state(&layout).unwrap().unwrap(), &state);
}

#[test]
fn the_other_type_is_converted() {
    let layout = rich_layout();
    let narrow = Params::<f32>::init(&layout, 3);
    let raw = parse(bytes_of(&narrow, Some(&rich_state(&layout))));
    let wide = raw.params::<f64>(&layout).unwrap();
    let expected: Vec<f64> = narrow.flat().iter().map(|&x| x.into()).collect();
    assert_eq!(wide.flat(), expected);
    let state = raw.state::<f64>(&layout).unwrap().unwrap();
    let expected: Vec<f64> = rich_state::<f32>(&layout).moments[1]
        .iter()
        .map(|&x| x.into())
        .collect();
    assert_eq!(&*state.moments[1], &*expected);

    let wide = Params::<f64>::init(&layout, 4);
    let narrow = parse(bytes_of(&wide, None)).params::<f32>(&layout).unwrap();
    let expected: Vec<f32> = wide.flat().iter().map(|&x| x as f32).collect();
    assert_eq!(narrow.flat(), expected);
}

/// The tensors of a file and its texts, as the safetensors crate sees them.
fn crate_view(bytes: &[u8]) -> (SafeTensors<'_>, HashMap<String, String>) {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    (
        SafeTensors::deserialize(bytes).unwrap(),
        metadata.metadata().clone().unwrap(),
    )
}

#[test]
fn the_safetensors_crate_reads_our_files() {
    let layout = rich_layout();
    let (params, state) = (Params::<f32>::init(&layout, 3), rich_state(&layout));
    let bytes = bytes_of(&params, Some(&state));
    let (tensors, texts) = crate_view(&bytes);
    assert_eq!(texts["config"], CONFIG);
    assert_eq!(texts["neuro_divergent"], "1");
    // 7 parameters with memory of their own, 5 of them trained, once, in two moments and in the best.
    assert_eq!(tensors.names().len(), 7 + 2 * 5 + 7 + 1);
    assert!(tensors.tensor("params.decoder.weight").is_err());
    assert!(tensors.tensor("moments.0.basis").is_err());
    let weight = tensors.tensor("params.linear.weight").unwrap();
    assert_eq!((weight.dtype(), weight.shape()), (Dtype::F32, &[5, 7][..]));
    let id = layout.find("linear.weight").unwrap();
    let expected: Vec<u8> = params
        .get(id)
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    assert_eq!(weight.data(), expected);
    assert_eq!(
        tensors.tensor("params.scale").unwrap().shape(),
        &[] as &[usize]
    );
    let epoch = tensors.tensor("sampler.epoch").unwrap();
    assert_eq!((epoch.dtype(), epoch.shape()), (Dtype::U32, &[5][..]));
    // Data begin at a multiple of eight bytes, so they can be mapped.
    assert_eq!((bytes.len() - take_apart(&bytes).1.len()) % 8, 0);
}

#[test]
fn a_file_that_another_program_wrote_anew_is_still_valid() {
    let layout = rich_layout();
    let (params, state) = (Params::<f32>::init(&layout, 3), rich_state(&layout));
    let bytes = bytes_of(&params, Some(&state));
    let (tensors, texts) = crate_view(&bytes);
    let again = serialize(tensors.tensors(), Some(texts)).unwrap();
    assert_ne!(again, bytes, "the crate sorts by type first");
    let (config, back, resumed) = load(again, &layout).unwrap();
    assert_eq!((config.as_str(), back.flat()), (CONFIG, params.flat()));
    assert_same_state(&resumed.unwrap(), &state);
}

#[test]
fn the_order_of_tensors_and_keys_does_not_matter() {
    let layout = rich_layout();
    let params = Params::<f32>::init(&layout, 3);
    let (header, data) = take_apart(&bytes_of(&params, None));
    let value: serde_json::Value = serde_json::from_str(&header).unwrap();
    let object = value.as_object().unwrap();
    // Reversed, the metadata last, with line breaks, and the data reversed too.
    let (mut text, mut moved) = (String::from("{"), Vec::new());
    for (name, record) in object
        .iter()
        .rev()
        .filter(|(name, _)| *name != "__metadata__")
    {
        let offset = |i: usize| record["data_offsets"][i].as_u64().unwrap() as usize;
        let begin = moved.len();
        moved.extend(&data[offset(0)..offset(1)]);
        let name = serde_json::to_string(name).unwrap();
        let (shape, end) = (&record["shape"], moved.len());
        text += &format!(
            "\n  {name}: {{\"shape\": {shape}, \"dtype\": \"F32\", \"data_offsets\": [{begin}, {end}]}},"
        );
    }
    text += &format!("\n  \"__metadata__\": {}\n}}\n", object["__metadata__"]);
    let bytes = super::assemble(text.as_bytes(), &moved);
    let (_, back, _) = load(bytes, &layout).unwrap();
    assert_eq!(back.flat(), params.flat());
}

#[test]
fn the_checksum_is_that_of_the_documentation() {
    let layout = rich_layout();
    let (params, state) = (Params::<f64>::init(&layout, 3), rich_state(&layout));
    let (header, data) = take_apart(&bytes_of(&params, Some(&state)));
    let value: serde_json::Value = serde_json::from_str(&header).unwrap();
    let stored = value["__metadata__"]["checksum"].as_str().unwrap();
    assert_eq!(format!("{:016x}", checksum(&value, &data)), stored);
}

/// The parameters of a file whose numbers were rounded to a 16-bit type.
fn halved(dtype: Dtype, round: impl Fn(f32) -> [u8; 2]) -> (Params<f32>, Params<f32>) {
    let layout = rich_layout();
    let params = Params::<f32>::init(&layout, 3);
    let bytes = bytes_of(&params, None);
    let (tensors, mut texts) = crate_view(&bytes);
    let halves: Vec<(String, Vec<usize>, Vec<u8>)> = (tensors.tensors().into_iter())
        .map(|(name, view)| {
            let numbers = view.data().as_chunks::<4>().0.iter();
            let data = numbers
                .flat_map(|x| round(f32::from_le_bytes(*x)))
                .collect();
            (name, view.shape().to_vec(), data)
        })
        .collect();
    let length: usize = halves.iter().map(|(_, _, data)| data.len()).sum();
    texts.insert("data_bytes".to_owned(), length.to_string());
    let views = halves.iter().map(|(name, shape, data)| {
        let view = TensorView::new(dtype, shape.clone(), data).unwrap();
        (name.as_str(), view)
    });
    let (header, data) = take_apart(&serialize(views, Some(texts)).unwrap());
    let (_, back, _) = load(sign(&header, &data), &layout).unwrap();
    (params, back)
}

#[test]
fn sixteen_bit_numbers_are_read() {
    let (params, back) = halved(Dtype::F16, |x| f16::from_f32(x).to_le_bytes());
    for (x, y) in params.flat().iter().zip(back.flat()) {
        assert_eq!(f16::from_f32(*x).to_f32(), *y);
    }
    let (params, back) = halved(Dtype::BF16, |x| bf16::from_f32(x).to_le_bytes());
    for (x, y) in params.flat().iter().zip(back.flat()) {
        assert_eq!(bf16::from_f32(*x).to_f32(), *y);
    }
}

#[test]
fn the_gaps_between_parameters_are_zero_after_reading() {
    let layout = rich_layout();
    let mut state = rich_state::<f32>(&layout);
    // A careless caller's gaps are not stored.
    let range = layout.range(layout.find("linear.weight").unwrap());
    let mut flat = Buffer::from_slice(&state.moments[0]);
    flat[range.end] = 5.0;
    state.moments[0] = flat;
    let bytes = bytes_of(&Params::init(&layout, 1), Some(&state));
    let (_, _, back) = load(bytes, &layout).unwrap();
    assert_eq!(back.unwrap().moments[0][range.end], 0.0);
}

#[test]
#[should_panic(expected = "values of moment 0")]
fn a_state_of_another_layout_is_a_bug() {
    let params = Params::<f32>::init(&rich_layout(), 1);
    let state = TrainState::new(&super::plain_layout(), 1, 2);
    let _ = save(Path::new("never.written"), "{}", &params, Some(&state));
}

#[test]
fn layouts_are_shared() {
    let layout = rich_layout();
    let raw = parse(bytes_of(&Params::<f32>::init(&layout, 3), None));
    assert!(Arc::ptr_eq(
        raw.params::<f32>(&layout).unwrap().layout(),
        &layout
    ));
}
