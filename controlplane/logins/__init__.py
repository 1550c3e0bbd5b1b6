"""The pages on which people connect their accounts at providers: plain forms, useful without
scripts. What happens behind them is in providers/oauth."""
