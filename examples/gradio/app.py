"""Read a DNA sequence: composition, GC content along it, and the protein it would make. With Gradio."""

import itertools
import os

# Set before Gradio is imported: it reads this once.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr  # noqa: E402
import pandas as pd  # noqa: E402

BASES = "TCAG"
# The standard genetic code, in the order of the bases above; `*` ends a protein.
AMINO_ACIDS = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
CODONS = dict(zip(map("".join, itertools.product(BASES, repeat=3)), AMINO_ACIDS, strict=True))
COMPLEMENT = str.maketrans("ACGT", "TGCA")
EXAMPLES = [
    "ATGGCCATTGTAATGGGCCGCTGAAAGGGTGCCCGATAG",
    "ATGAAACGCATTAGCACCACCATTACCACCACCATCACCATTACCACAGGTAACGGTGCGGGCTGA",
    "GCGCGCGCATATATATGCGCGCGCATATATAT",
]


def clean(text: str) -> str:
    """Accepts plain or FASTA text, and RNA; refuses what is no base, by name."""
    lines = [line for line in text.splitlines() if not line.startswith(">")]
    sequence = "".join("".join(lines).split()).upper().replace("U", "T")
    strangers = sorted(set(sequence) - set("ACGT"))
    if strangers:
        raise gr.Error(f"Not a base: {', '.join(strangers)}. Use A, C, G and T.")
    if not sequence:
        raise gr.Error("Type or paste a sequence first.")
    return sequence


def translate(sequence: str) -> str:
    start = sequence.find("ATG")
    if start < 0:
        return "no start codon"
    protein = "".join(CODONS[sequence[i : i + 3]] for i in range(start, len(sequence) - 2, 3))
    return protein.split("*")[0]


def analyse(text: str, window: int):
    sequence = clean(text)
    window = min(int(window), len(sequence))
    steps = range(len(sequence) - window + 1)
    gc = [100 * sum(base in "GC" for base in sequence[i : i + window]) / window for i in steps]
    along = pd.DataFrame({"position": [i + 1 for i in steps], "GC (%)": gc})
    counts = pd.DataFrame({"base": list("ACGT"), "count": [sequence.count(base) for base in "ACGT"]})
    return translate(sequence), sequence.translate(COMPLEMENT)[::-1], along, counts


with gr.Blocks(title="Sequence reader", analytics_enabled=False) as demo:
    gr.Markdown("# Sequence reader\nPaste DNA, RNA or FASTA text. Nothing leaves this app.")
    with gr.Row():
        with gr.Column(scale=2):
            text = gr.Textbox(EXAMPLES[0], label="Sequence", lines=5, max_lines=12)
            window = gr.Slider(3, 60, value=9, step=1, label="Window (bases)")
            button = gr.Button("Read", variant="primary")
            gr.Examples(EXAMPLES, text)
        with gr.Column(scale=3):
            protein = gr.Textbox(label="Protein", buttons=["copy"])
            reverse = gr.Textbox(label="Reverse complement", buttons=["copy"])
            along = gr.LinePlot(
                x="position", y="GC (%)", title="GC content along the sequence", height=220, y_lim=[0, 100]
            )
            counts = gr.BarPlot(x="base", y="count", title="Composition", height=200, y_lim=[0, None])
    outputs = [protein, reverse, along, counts]
    button.click(analyse, [text, window], outputs, api_name="analyse")
    demo.load(analyse, [text, window], outputs, api_name=False)

if __name__ == "__main__":
    demo.launch(
        server_name="0.0.0.0",
        server_port=int(os.environ.get("PORT", "7860")),
        # Fonts of the visitor's own machine: the page asks nobody else for anything.
        theme=gr.themes.Soft(
            primary_hue="teal", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        ssr_mode=False,
        share=False,
        footer_links=["api"],
    )
