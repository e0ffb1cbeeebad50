"""How what mail signs begins: no app may sign what begins so. Apart, for every node looks at it when it starts."""

LETTER_CONTEXT = b"coterie letter 1\x00"
RECEIPT_CONTEXT = b"coterie letter receipt 1\x00"
CONTEXTS = (LETTER_CONTEXT, RECEIPT_CONTEXT)
