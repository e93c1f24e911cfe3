"""A model behind an API: which iris is it? FastAPI and scikit-learn."""

import asyncio
import contextlib
import json
import pathlib
import time
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from swagger_ui_bundle import swagger_ui_path

Centimetres = Annotated[float, Field(ge=0.1, le=30, allow_inf_nan=False)]


class Flower(BaseModel):
    """Measurements of one flower, in centimetres."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
        },
    )

    sepal_length: Centimetres
    sepal_width: Centimetres
    petal_length: Centimetres
    petal_width: Centimetres


class Prediction(BaseModel):
    species: str
    probabilities: dict[str, float]


class Model:
    """Trained at start: the data comes with scikit-learn, and training takes a fraction of a second."""

    def __init__(self) -> None:
        iris = load_iris()
        seen, unseen, seen_species, unseen_species = train_test_split(
            iris.data, iris.target, test_size=0.3, random_state=0, stratify=iris.target
        )
        self.species = [str(name) for name in iris.target_names]
        self.forest = RandomForestClassifier(n_estimators=60, random_state=0).fit(seen, seen_species)
        self.accuracy = float(self.forest.score(unseen, unseen_species))

    def predict(self, flower: Flower) -> Prediction:
        row = np.array([[flower.sepal_length, flower.sepal_width, flower.petal_length, flower.petal_width]])
        shares = self.forest.predict_proba(row)[0]
        probabilities = {
            name: round(float(share), 4) for name, share in zip(self.species, shares, strict=True)
        }
        return Prediction(species=self.species[int(shares.argmax())], probabilities=probabilities)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.model = Model()
    app.state.started = time.time()
    yield


HERE = pathlib.Path(__file__).parent
app = FastAPI(title="Iris", version="1.0.0", docs_url=None, redoc_url=None, lifespan=lifespan)
# The bundled API page reads 3.0, and nothing here needs more.
app.openapi_version = "3.0.3"
# The API page's scripts are served from here, so that it also works where nobody reaches a CDN.
app.mount("/swagger", StaticFiles(directory=swagger_ui_path), name="swagger")


@app.get("/", include_in_schema=False)
def page() -> FileResponse:
    return FileResponse(HERE / "index.html")


@app.get("/docs", include_in_schema=False)
def docs():
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Iris API",
        swagger_js_url="swagger/swagger-ui-bundle.js",
        swagger_css_url="swagger/swagger-ui.css",
        swagger_favicon_url="swagger/favicon-32x32.png",
    )


@app.get("/healthz")
def healthz() -> dict:
    return {"status": "ok", "accuracy": round(app.state.model.accuracy, 3), "started": app.state.started}


@app.post("/predict")
def predict(flower: Flower) -> Prediction:
    """Says which species a flower is, and how sure the model is. What is no measurement is refused with 422."""
    return app.state.model.predict(flower)


@app.get("/stream")
async def stream(
    count: Annotated[int, Query(ge=1, le=1000)] = 10, every: Annotated[float, Query(ge=0.01, le=60)] = 0.5
) -> StreamingResponse:
    """Server-sent events: random flowers and what the model makes of them, one every `every` seconds."""

    async def events():
        random = np.random.default_rng()
        for number in range(count):
            values = random.uniform([4.3, 2.0, 1.0, 0.1], [7.9, 4.4, 6.9, 2.5]).round(1)
            flower = Flower(**dict(zip(Flower.model_fields, map(float, values), strict=True)))
            data = {
                "number": number,
                "flower": flower.model_dump(),
                **app.state.model.predict(flower).model_dump(),
            }
            yield f"id: {number}\nevent: prediction\ndata: {json.dumps(data)}\n\n"
            await asyncio.sleep(every)
        yield "event: end\ndata: {}\n\n"

    return StreamingResponse(
        events(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
