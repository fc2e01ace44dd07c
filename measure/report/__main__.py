"""`python -m measure.report > measure/measurements.schema.json` renews the committed schema."""

import sys

from measure.report.form import schema_text

if __name__ == "__main__":
    sys.stdout.write(schema_text())
