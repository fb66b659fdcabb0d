//! Turns with a script: it names a row and a time, we run ours for that long and answer with the seconds of one call.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::time::Instant;

use nd_core::Buffer;

use crate::row::{Plan, Row};

/// Answers lines `ROW\tSECONDS\tTHREADS` until the input ends; `error: ...` where a line cannot be answered.
pub(crate) fn serve(plans: &[Plan]) -> io::Result<()> {
    let mut made: HashMap<String, (Row, Buffer<f32>)> = HashMap::new();
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = match answer(plans, &mut made, &line?) {
            Ok(seconds) => format!("{seconds:e}"),
            Err(message) => format!("error: {message}"),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn answer(
    plans: &[Plan],
    made: &mut HashMap<String, (Row, Buffer<f32>)>,
    line: &str,
) -> Result<f64, String> {
    let mut fields = line.split('\t');
    let (Some(name), Some(seconds), Some(threads), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("expected ROW, SECONDS and THREADS with tabs between them".to_owned());
    };
    let seconds: f64 = seconds
        .parse()
        .map_err(|_| format!("`{seconds}` is no number of seconds"))?;
    let threads: usize = threads
        .parse()
        .map_err(|_| format!("`{threads}` is no number of threads"))?;
    if !made.contains_key(name) {
        let plan = plans
            .iter()
            .find(|plan| plan.threads == threads && plan.name == name);
        let missing = || format!("no row `{name}` on {threads} threads");
        let row = (plan.ok_or_else(missing)?.make)();
        let out = Buffer::zeroed(row.out);
        // One row at a time is measured; the last one's memory goes back.
        made.clear();
        made.insert(name.to_owned(), (row, out));
    }
    let (row, out) = made.get_mut(name).ok_or("a row that was just made")?;
    let call = &mut row.contestants[0].call;
    call(out);
    let start = Instant::now();
    let mut calls = 0u32;
    while calls == 0 || start.elapsed().as_secs_f64() < seconds {
        call(out);
        calls += 1;
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(calls))
}
