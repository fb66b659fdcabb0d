//! Files that are whole but belong to another network.

use nd_core::autograd::{Init, ParamKind, Params, ParamsBuilder};
use nd_core::train_state::TrainState;
use nd_models::checkpoint::Fault;

use super::{bytes_of, fault, load, plain_file, plain_layout};

/// The fault of reading the plain file into a layout with these parameters.
fn into(parameters: &[(&str, &[usize])]) -> (Fault, String) {
    let mut b = ParamsBuilder::new();
    for (name, shape) in parameters {
        b.trainable(name, *shape, Init::Constant(0.0));
    }
    let result = load(plain_file(), &b.build());
    let message = result.as_ref().err().unwrap().to_string();
    (fault(result), message)
}

#[test]
fn a_missing_parameter_is_named() {
    let (found, message) = into(&[("w", &[2, 3]), ("b", &[3]), ("extra.gain", &[4])]);
    assert!(matches!(found, Fault::Missing { .. }), "{message}");
    for part in ["the.file", "params.extra.gain", "shape [4]", "found none"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_renamed_parameter_shows_both_names() {
    let (found, message) = into(&[("w", &[2, 3]), ("bias", &[3])]);
    assert!(matches!(found, Fault::Missing { .. }), "{message}");
    for part in ["params.bias", "\"params.b\" [3]"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_parameter_too_many_is_named() {
    let (found, message) = into(&[("w", &[2, 3])]);
    assert!(matches!(found, Fault::Unexpected { .. }), "{message}");
    for part in ["params.b", "shape [3]"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn another_shape_is_shown_beside_the_expected_one() {
    for shape in [&[3usize, 2][..], &[6], &[2, 3, 1], &[2, 4]] {
        let (found, message) = into(&[("w", shape), ("b", &[3])]);
        assert!(matches!(found, Fault::Shape { .. }), "{message}");
        for part in ["params.w", &format!("{shape:?}"), "[2, 3]"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

#[test]
fn a_state_with_moments_of_other_parameters_is_refused() {
    // The same names and shapes, but the frozen one is trained now, so its moments are missing.
    let mut b = ParamsBuilder::new();
    b.trainable("w", [2, 3], Init::Constant(0.0));
    b.trainable("b", [3], Init::Constant(0.0));
    let found = fault(load(plain_file(), &b.build()));
    assert!(
        matches!(&found, Fault::Missing { tensor, .. } if tensor == "moments.0.b"),
        "{found}"
    );
    // And the other way round, there are too many.
    let mut b = ParamsBuilder::new();
    b.frozen("w", [2, 3], Init::Constant(0.0));
    b.frozen("b", [3], Init::Constant(0.0));
    let found = fault(load(plain_file(), &b.build()));
    assert!(
        matches!(&found, Fault::Unexpected { tensor, .. } if tensor == "moments.0.w"),
        "{found}"
    );
}

#[test]
fn a_tied_name_in_the_file_is_not_the_owner() {
    let layout = plain_layout();
    let bytes = bytes_of(&Params::<f32>::init(&layout, 1), None);
    let mut b = ParamsBuilder::new();
    let w = b.trainable("w", [2, 3], Init::Constant(0.0));
    b.tie("b", w);
    let found = fault(load(bytes, &b.build()));
    assert!(
        matches!(&found, Fault::Unexpected { tensor, .. } if tensor == "params.b"),
        "{found}"
    );
}

#[test]
fn a_number_beyond_f32_is_named_with_its_place() {
    let layout = plain_layout();
    let mut params = Params::<f64>::init(&layout, 1);
    params.get_mut(layout.find("w").unwrap())[4] = -1e39;
    let result = load(bytes_of(&params, None), &layout);
    let message = result.as_ref().err().unwrap().to_string();
    assert!(
        matches!(fault(result), Fault::Range { element: 4, .. }),
        "{message}"
    );
    assert!(
        message.contains("params.w") && message.contains("-1e39"),
        "{message}"
    );
}

#[test]
fn kinds_may_change_when_there_is_no_state() {
    let bytes = bytes_of(&Params::<f32>::init(&plain_layout(), 1), None);
    let mut b = ParamsBuilder::new();
    b.buffer("b", [3], Init::Constant(0.0));
    b.add(
        "w",
        [2, 3],
        ParamKind::TrainableNoDecay,
        Init::Constant(0.0),
    );
    let layout = b.build();
    let (_, params, state) = load(bytes, &layout).unwrap();
    let expected = Params::<f32>::init(&plain_layout(), 1);
    let find =
        |params: &Params<f32>, name| params.get(params.layout().find(name).unwrap()).to_vec();
    assert_eq!(find(&params, "w"), find(&expected, "w"));
    assert_eq!(find(&params, "b"), find(&expected, "b"));
    assert!(state.is_none());
}

#[test]
fn the_number_of_moments_is_that_of_the_file() {
    let layout = plain_layout();
    for moments in 0..=8 {
        let state = TrainState::new(&layout, 1, moments);
        let bytes = bytes_of(&Params::<f32>::init(&layout, 1), Some(&state));
        let (_, _, back) = load(bytes, &layout).unwrap();
        assert_eq!(back.unwrap().moments.len(), moments);
    }
}
