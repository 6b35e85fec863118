"""One batch through the detector: what each image gets, whatever goes wrong."""

from __future__ import annotations

from typing import Any

from swiftdet.dispatch.target import Target
from swiftdet.results import Detections


class Run:
    """Loads images and detects in them, and turns whatever is raised into the answer of the image that it belongs to.

    Knows no requests: the frames that an error keeps alive must not lead back to the future that holds the error.

    Attributes:
        executions: sizes of the batches that went to the engine.
    """

    def __init__(self, target: Target, options: Any) -> None:
        self.executions: list[int] = []
        self._target = target
        self._options = options

    def load(self, images: list[Any]) -> list[Any]:
        """Each image decoded, or the error that says why there is none."""
        return [self._load(image) for image in images]

    def give_back(self, images: list[Any]) -> None:
        """Ends the loans among images that nothing reads any more, and forgets all of them."""
        for image in images:
            self._target.give_back(image)
        images.clear()

    def detect(self, images: list[Any]) -> list[Detections | BaseException]:
        """The detections or the error of each image.

        Where a batch fails, its images run once more, one by one, as one of them may be to blame: its neighbours get
        their detections then. Where the engine is to blame they fail again, each with an error of its own.
        """
        if not images:
            return []
        answers = self._attempt(images)
        try:
            if len(images) > 1 and not isinstance(answers, list):
                del answers  # before the next run: an error keeps the frames that it passed, and so the detector
                answers = [self._alone(image) for image in images]
            return answers if isinstance(answers, list) else [answers]
        finally:
            del answers  # these frames must not lead back to the errors that keep them

    def _alone(self, image: Any) -> Detections | BaseException:
        answers = self._attempt([image])
        try:
            return answers[0] if isinstance(answers, list) else answers
        finally:
            del answers

    def _attempt(self, images: list[Any]) -> list[Detections | BaseException] | BaseException:
        self.executions.append(len(images))
        try:
            return [*self._target.detect(images, self._options)]
        except BaseException as e:  # noqa: BLE001 - whatever it is, it is the answer to these images
            return e

    def _load(self, image: Any) -> Any:
        try:
            return self._target.load(image, self._options)
        except BaseException as e:  # noqa: BLE001 - whatever it is, it is the answer to this image
            return e
